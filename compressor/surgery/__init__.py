"""Models cut out of models: tensors in, tensors out."""
