"""Static int8: weights are integers in the file, and so are the ranges of what they are multiplied with."""
