"""Networks of the cascade: the UNet family, text encoders and the autoencoder."""
