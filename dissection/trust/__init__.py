"""Trust in labels: what they predict of images that did not choose them, whom they fit, and when no word fits."""
