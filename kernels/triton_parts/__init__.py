"""Parts that several kernels share: layout of blocks, noise, fast mathematics, products, launches."""
