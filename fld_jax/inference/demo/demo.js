// Finds landmarks on a photo with the exported network, in the browser.
//
// ?photo=ADDRESS&box=x1,y1,x2,y2 opens a photo of the same server at once.

import * as ort from './ort.wasm.min.mjs';
import {cut} from './crop.js';

const MAX_PIXELS = 16e6;  // what canvases of telephones hold
const UNSURE = UNSURE_CONFIDENCE;
const COLOURS = {left: 'COLOUR_LEFT', right: 'COLOUR_RIGHT', middle: 'COLOUR_MIDDLE'};
const $ = (id) => document.getElementById(id);
const canvas = $('photo');
const state = {image: null, scale: 1, box: null, found: null, name: ''};
let model = null;

ort.env.wasm.numThreads = 1;  // more needs headers that few servers send
ort.env.wasm.wasmPaths = new URL('./', import.meta.url).href;

function say(text) {
  $('status').textContent = text;
}

async function load() {
  const answer = await fetch('manifest.json');
  if (!answer.ok) throw new Error(`manifest.json: ${answer.status}`);
  const manifest = await answer.json();
  const start = performance.now();
  const session = await ort.InferenceSession.create('model.onnx');
  const loaded = Math.round(performance.now() - start);
  return {manifest, session, loaded};
}

/** Decodes a photo: upright, transparent parts over white. */
async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, {imageOrientation: 'from-image'});
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (bitmap.width * bitmap.height)));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const page = new OffscreenCanvas(width, height);
  const pen = page.getContext('2d', {willReadFrequently: true});
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0, width, height);
  const image = pen.getImageData(0, 0, width, height);
  return {image, page, scaleX: width / bitmap.width, scaleY: height / bitmap.height};
}

/** Runs the network on a box; landmarks in pixels of the photo. */
async function find(photo, box) {
  const {preprocessing, landmarks} = model.manifest;
  const start = performance.now();
  const {pixels, toImage} = cut(photo.image, box, preprocessing);
  const prepared = performance.now();
  const {size} = preprocessing;
  const input = new ort.Tensor('uint8', pixels, [1, size, size, 3]);
  const out = await model.session.run({image: input});
  const end = performance.now();
  const places = out.landmarks.data;
  const found = landmarks.names.map((name, i) => {
    const [x, y] = toImage(places[2 * i], places[2 * i + 1]);
    return {
      name,
      x: x / photo.scaleX,
      y: y / photo.scaleY,
      confidence: out.confidence ? out.confidence.data[i] : null,
    };
  });
  return {found, cutting: prepared - start, running: end - prepared};
}

function sideOf(i) {
  const partner = model.manifest.landmarks.partners_when_mirrored[i];
  if (partner === i) return 'middle';
  return model.manifest.landmarks.sides[i];
}

function draw() {
  const {photo, box, found} = state;
  canvas.width = photo.image.width;
  canvas.height = photo.image.height;
  const pen = canvas.getContext('2d');
  pen.drawImage(photo.page, 0, 0);
  const unit = Math.max(canvas.width, canvas.height) / 400;
  if (box) {
    pen.strokeStyle = 'white';
    pen.lineWidth = 1.5 * unit;
    pen.setLineDash([6 * unit, 4 * unit]);
    pen.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
    pen.setLineDash([]);
  }
  (found || []).forEach(({x, y, confidence}, i) => {
    const sure = confidence === null || confidence >= UNSURE;
    pen.beginPath();
    pen.arc(x * photo.scaleX, y * photo.scaleY, 4 * unit, 0, 2 * Math.PI);
    pen.globalAlpha = sure ? 1 : 0.45;
    pen.fillStyle = COLOURS[sideOf(i)];
    pen.fill();
    pen.lineWidth = unit;
    pen.strokeStyle = 'white';
    pen.stroke();
    pen.globalAlpha = 1;
  });
}

function list() {
  $('rows').replaceChildren(...(state.found || []).map((item, i) => {
    const row = document.createElement('tr');
    const name = document.createElement('td');
    const swatch = document.createElement('span');
    swatch.className = 'swatch';
    swatch.style.background = COLOURS[sideOf(i)];
    name.append(swatch, item.name.replaceAll('_', ' '));
    row.append(name);
    const cells = [item.x.toFixed(1), item.y.toFixed(1),
      item.confidence === null ? '' : item.confidence.toFixed(2)];
    for (const text of cells) {
      const cell = document.createElement('td');
      cell.textContent = text;
      row.append(cell);
    }
    if (item.confidence !== null && item.confidence < UNSURE) row.className = 'unsure';
    return row;
  }));
}

async function show() {
  const {photo} = state;
  const whole = [0, 0, photo.image.width, photo.image.height];
  const {found, cutting, running} = await find(photo, state.box || whole);
  state.found = found;
  draw();
  list();
  $('whole').disabled = !state.box;
  const box = (state.box || whole).map((value, i) =>
    value / (i % 2 ? photo.scaleY : photo.scaleX));
  const content = {image: state.name, box, landmarks: found};
  const old = $('save').href;
  if (old) URL.revokeObjectURL(old);
  $('save').href = URL.createObjectURL(
    new Blob([JSON.stringify(content, null, 1)], {type: 'application/json'}));
  $('save').hidden = false;
  say(`Found in ${Math.round(running)} ms (crop ${Math.round(cutting)} ms, ` +
      `network loaded in ${model.loaded} ms).`);
  document.body.dataset.result = JSON.stringify({...content, running, cutting});
}

async function open(blob, name, box = null) {
  say('Reading the photo ...');
  try {
    state.photo = await pixelsOf(blob);
  } catch (error) {
    say(`${name} is no image that this browser can read.`);
    return;
  }
  state.name = name;
  state.box = box && box.map((value, i) =>
    value * (i % 2 ? state.photo.scaleY : state.photo.scaleX));
  state.found = null;
  draw();
  await show();
}

// --- A box by mouse, finger or pen.

function placeOf(event) {
  const frame = canvas.getBoundingClientRect();
  const clip = (value, most) => Math.min(Math.max(value, 0), most);
  return [
    clip((event.clientX - frame.left) / frame.width * canvas.width, canvas.width),
    clip((event.clientY - frame.top) / frame.height * canvas.height, canvas.height),
  ];
}

let corner = null;
canvas.addEventListener('pointerdown', (event) => {
  if (!state.photo || !model) return;
  corner = placeOf(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', (event) => {
  if (!corner) return;
  const [x, y] = placeOf(event);
  state.box = [Math.min(x, corner[0]), Math.min(y, corner[1]),
    Math.max(x, corner[0]), Math.max(y, corner[1])];
  draw();
});
canvas.addEventListener('pointerup', async () => {
  if (!corner) return;
  corner = null;
  const {box} = state;
  // A tap is no box.
  if (box && (box[2] - box[0] < 8 || box[3] - box[1] < 8)) state.box = null;
  await show();
});
$('whole').addEventListener('click', async () => {
  state.box = null;
  await show();
});
$('file').addEventListener('change', async (event) => {
  const [file] = event.target.files;
  if (file && model) await open(file, file.name);
});
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', async (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && model) await open(file, file.name);
});

// --- Begin.

try {
  model = await load();
  say(`Ready; the network was loaded in ${model.loaded} ms.`);
  document.body.dataset.ready = 'true';
  const query = new URLSearchParams(location.search);
  const address = query.get('photo');
  if (address) {
    const box = query.get('box');
    const answer = await fetch(address);
    await open(await answer.blob(), address, box && box.split(',').map(Number));
  } else if ($('file').files.length) {
    await open($('file').files[0], $('file').files[0].name);
  }
} catch (error) {
  say(`The network cannot be loaded (${error.message}). The page must come from ` +
      'a web server: python -m http.server');
  throw error;
}
