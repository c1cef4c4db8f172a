"""Blocks whose parts run on merged tokens and are restored: merging and inverse sampling around each part."""
