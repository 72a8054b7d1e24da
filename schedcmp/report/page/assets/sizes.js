// Sizes that the grid and its tiles have in common.

export const TILE_SIZES = { s: 96, m: 160, l: 256, xl: 400 }; // px
export const GAP = 10; // px
