"""The paper's tables and figures, again on other models."""
