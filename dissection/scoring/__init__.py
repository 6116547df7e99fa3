"""How good is a dissection, and how readable a network?"""
