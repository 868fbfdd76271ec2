"""What networks are shown beside the field; training and use prepare it here alike."""
