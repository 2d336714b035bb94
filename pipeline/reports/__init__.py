"""What is written for people about a model: the report, its pictures, the card."""
