"""How the built-in checkpoint was made: a tiny Stable Diffusion, trained on one CPU thread.

- `shapes`: draws the pictures; `captions`: says what they show
- `tokenizer`: CLIP's byte-level BPE, with merges for the captions' words
- `vae`: 3x64x64 pixels <-> 4x16x16 latents
- `diffusion`: the text encoder and the UNet, trained together to predict the noise
- `training`: what the training loops share; `export`: writes the checkpoint
- `train`: runs all of it (`python -m tools.tiny.train`)
- `judge`: a classifier that reads a drawing's attributes back from a picture
- `evaluate`: how often the trained pipeline draws what the caption says (`python -m tools.tiny.evaluate`)
"""
