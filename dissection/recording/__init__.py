"""Recording: one pass of the probing set through network and CLIP, and what stays of it."""
