"""What a stack looks like to other programs: pure functions of the model."""
