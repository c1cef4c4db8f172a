"""A model, an adapter and a fusion strategy that turbo finds by itself."""
