"""The small models that the repository carries, and the scripts that make them."""
