"""Model classes of our own, for what no class of transformers can hold."""
