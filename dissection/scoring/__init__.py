"""What is known of neurons and layers beside their names."""
