"""Training: of motion LoRAs on one clip (paper, section 3.7)."""
