"""How the built-in checkpoints were made: a tiny Stable Diffusion 1.5 and a tiny 3, trained on one CPU thread.

- `shapes`: draws the pictures; `captions`: says what they show
- `tokenizer`: CLIP's byte-level BPE, with merges for the captions' words
- `vae`: 3x64x64 pixels <-> 4x16x16 latents
- `diffusion`: the text encoder and the UNet, trained together to predict the noise
- `flow`: two text encoders and a transformer, trained together to predict the velocity, by `diffusion`'s and the data
- `distil`: LoRAs for few steps of both, from their `paths`; `worlds`: what those two need to know of a checkpoint
- `captioned`: what those two share; `training`: what all training loops share; `export`: writes the checkpoints
- `train`: runs all of it (`python -m tools.tiny.train`, then with `--flow` and `--few-step`)
- `judge`: a classifier that reads a drawing's attributes back from a picture
- `evaluate`: how often the trained pipeline draws what the caption says (`python -m tools.tiny.evaluate`)
"""
