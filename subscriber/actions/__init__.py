"""What a rule does when it matches."""
