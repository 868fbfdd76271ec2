"""Small files the package ships: bibliography and templates."""
