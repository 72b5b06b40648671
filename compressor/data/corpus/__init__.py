"""Raw text as training data: streamed, packed into sequences or pairs of segments, with tokens masked.

To add another way of packing: a file with a class that satisfies `sequences.Side`, and its choice in `packing`.
"""
