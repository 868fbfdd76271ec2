"""Training of the deep networks on simulated heads: data from physics, the loop, and what it leaves behind."""
