"""What is right, against a witness of its own."""
