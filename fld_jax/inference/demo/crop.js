// Cuts the crop of an item out of a photo: what `geometry.cut` does in Python.
//
// Positions are x, y in pixels from the top-left corner of the top-left pixel,
// whose centre is (0.5, 0.5). Pixels are RGBA bytes, as ImageData has them.

/** Grows a box [x1, y1, x2, y2] by a share of its sides. */
export function growBox(box, margin) {
  const growX = margin * Math.max(box[2] - box[0], 1);
  const growY = margin * Math.max(box[3] - box[1], 1);
  return [box[0] - growX, box[1] - growY, box[2] + growX, box[3] + growY];
}

/** The map of image pixels to crop pixels: scale x, scale y, offset x, y. */
export function cropMap(box, size, mode) {
  const width = Math.max(box[2] - box[0], 1);
  const height = Math.max(box[3] - box[1], 1);
  const longer = Math.max(width, height);
  const scale = mode === 'bbox_wh' ? [size / width, size / height]
    : [size / longer, size / longer];
  return {
    scale,
    offset: [
      size / 2 - scale[0] * (box[0] + box[2]) / 2,
      size / 2 - scale[1] * (box[1] + box[3]) / 2,
    ],
  };
}

/** For each new pixel along an axis, the old ones that it covers, and shares. */
function coverage(length, newLength) {
  const factor = length / newLength;
  return Array.from({length: newLength}, (_, i) => {
    const start = i * factor;
    const end = Math.min((i + 1) * factor, length);
    const parts = [];
    for (let j = Math.floor(start); j < end; j++) {
      const share = Math.min(end, j + 1) - Math.max(start, j);
      if (share > 1e-9) parts.push([j, share / (end - start)]);
    }
    return parts;
  });
}

/** Averages areas: RGB of the part of an image, as floats, rounded to bytes. */
function reduced(image, left, top, width, height, newWidth, newHeight) {
  const columns = coverage(width, newWidth);
  const rows = coverage(height, newHeight);
  const wide = new Float32Array(height * newWidth * 3);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * image.width + left) * 4;
    for (let x = 0; x < newWidth; x++) {
      const to = (y * newWidth + x) * 3;
      for (const [j, share] of columns[x]) {
        const from = start + 4 * j;
        for (let c = 0; c < 3; c++) wide[to + c] += share * image.data[from + c];
      }
    }
  }
  const found = new Float32Array(newHeight * newWidth * 3);
  for (let y = 0; y < newHeight; y++) {
    for (const [j, share] of rows[y]) {
      const from = j * newWidth * 3;
      const to = y * newWidth * 3;
      for (let i = 0; i < newWidth * 3; i++) found[to + i] += share * wide[from + i];
    }
  }
  return found.map(Math.round);
}

/**
 * Cuts out a crop.
 *
 * @param {{width, height, data}} image RGBA bytes.
 * @param {number[]} box x1, y1, x2, y2 in image pixels.
 * @param {{size, crop, margin}} settings The manifest's `preprocessing`.
 * @return {{pixels: Uint8Array, toImage: function}} size x size x 3 RGB bytes,
 *     and the function of crop pixels x, y that gives image pixels.
 */
export function cut(image, box, {size, crop, margin}) {
  const grown = growBox(box, margin);
  const map = cropMap(grown, size, crop);
  const toImage = (x, y) => [
    (x - map.offset[0]) / map.scale[0],
    (y - map.offset[1]) / map.scale[1],
  ];
  const pixels = new Uint8Array(size * size * 3);
  const clip = (value, most) => Math.min(Math.max(value, 0), most);
  const left = clip(Math.floor(grown[0]), image.width);
  const top = clip(Math.floor(grown[1]), image.height);
  const width = clip(Math.ceil(grown[2]), image.width) - left;
  const height = clip(Math.ceil(grown[3]), image.height) - top;
  if (width <= 0 || height <= 0) return {pixels, toImage};
  // A strong reduction is averaged first, so that nothing aliases.
  const reduction = map.scale.map((scale) => Math.max(1 / scale, 1));
  let small = [width, height];
  if (Math.max(...reduction) > 1.5) {
    small = [width, height].map((length, i) =>
      Math.max(Math.round(length / reduction[i]), 1));
  }
  const part = reduced(image, left, top, width, height, ...small);
  const factor = [width / small[0], height / small[1]];
  const value = (x, y, c) =>
    x < 0 || y < 0 || x >= small[0] || y >= small[1] ? 0
      : part[(y * small[0] + x) * 3 + c];
  for (let v = 0; v < size; v++) {
    for (let u = 0; u < size; u++) {
      const [imageX, imageY] = toImage(u + 0.5, v + 0.5);
      // From the centre of the part's first pixel.
      const x = (imageX - left) / factor[0] - 0.5;
      const y = (imageY - top) / factor[1] - 0.5;
      const x0 = Math.floor(x), y0 = Math.floor(y);
      const a = x - x0, b = y - y0;
      for (let c = 0; c < 3; c++) {
        pixels[(v * size + u) * 3 + c] = Math.round(
          (1 - b) * ((1 - a) * value(x0, y0, c) + a * value(x0 + 1, y0, c)) +
          b * ((1 - a) * value(x0, y0 + 1, c) + a * value(x0 + 1, y0 + 1, c)));
      }
    }
  }
  return {pixels, toImage};
}
