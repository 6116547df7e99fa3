"""Words that may name neurons, and the encoders that embed words and images in one space."""
