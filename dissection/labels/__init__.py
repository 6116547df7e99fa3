"""Labels of the neurons: naming them, finding neurons for a text, auditing all labels together."""
