"""Captioning, questions, retrieval and classification: a model on data, as it is at the moment."""
