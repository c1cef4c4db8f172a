"""What knows that models exist: it finds a model's sites, runs them on fewer tokens, and puts them back."""
