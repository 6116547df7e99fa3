"""Moments of a layer: the sums over the probing set from which labels and their trustworthiness follow by algebra."""
