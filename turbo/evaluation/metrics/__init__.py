"""The field's metrics, and how sure a figure is. Pure functions."""
