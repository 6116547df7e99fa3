"""The tests mirror the folders of the library; what they share is in `tests.support`."""
