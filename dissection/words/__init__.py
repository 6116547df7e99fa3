"""Words that may name neurons, and the encoders that put words and images into one space."""
