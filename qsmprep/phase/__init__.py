"""Phase preparation: radians, sign, and the offset that does not grow with echo time."""
