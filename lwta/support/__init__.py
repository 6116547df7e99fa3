"""Ground floor: files, text, processes, seeds, digests and running networks; it knows torch and nothing of LWTA."""
