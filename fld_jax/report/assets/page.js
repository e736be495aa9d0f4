'use strict';
// The gallery: filters, cards that show truth beside prediction, and a viewer.
(() => {
  const hint = () => {
    for (const box of document.querySelectorAll('main .scroll')) {
      box.classList.toggle('overflows', box.scrollWidth > box.clientWidth);
    }
  };
  hint();
  window.addEventListener('resize', hint);
  if (window.matchMedia('(max-width: 63.9rem)').matches) {
    document.querySelector('nav details').open = false;
  }
  if (!document.getElementById('cards')) return;  // no image has an error
  const data = JSON.parse(document.getElementById('gallery-data').textContent);
  const get = (id) => document.getElementById(id);
  const PAGE = 24;
  const SVG = 'http://www.w3.org/2000/svg';
  const list = get('cards');
  const filters = {};
  for (const name of ['run', 'stage', 'why', 'type', 'variation', 'landmark',
    'route', 'sides', 'low', 'high', 'order']) {
    filters[name] = get('filter-' + name);
  }
  let shown = [];  // the images that pass the filters, in order
  let limit = PAGE;
  let open = -1;  // place in `shown` of the image in the viewer

  // --- what the filters say ---------------------------------------------
  const fill = (select, entries) => {
    select.replaceChildren(...entries.map(([value, text]) => {
      const option = document.createElement('option');
      option.value = value;
      option.textContent = text;
      return option;
    }));
  };
  const run = () => Number(filters.run.value);
  const stage = () => Number(filters.stage.value);
  const ne = (image, of = run(), at = stage()) => {
    const result = image.runs[of];
    if (!result) return null;
    const slot = filters.landmark.value;
    return slot === '' ? result.ne[at] : result.errors[at][Number(slot)];
  };
  const percent = (value) => value === null ? '–' : value.toFixed(1) + ' %';
  const all = (text) => [['', text]];
  const used = (names, key) => Object.entries(names).filter(
    ([code]) => data.images.some((image) => String(image[key]) === code));

  const fillStages = () => {
    const stages = data.runs[run()].stages;
    fill(filters.stage, stages.map((name, i) => [i, name]));
    filters.stage.value = stages.length - 1;
    const first = data.runs[0].label;
    const orders = [['worst', 'largest NE first'], ['best', 'smallest NE first'],
      ['name', 'by name']];
    if (run() > 0) {
      orders.push(['worse', 'worse than ' + first], ['better', 'better than ' + first]);
    }
    const order = filters.order.value;
    fill(filters.order, orders);
    if (orders.some(([value]) => value === order)) filters.order.value = order;
    hide('stage', stages.length < 2);
  };
  const hide = (name, hidden) => {
    filters[name].closest('label').hidden = hidden;
  };

  const start = () => {
    fill(filters.run, data.runs.map((each, i) => [i, each.label]));
    fill(filters.why, all('all').concat([['worst', 'worst'], ['best', 'best'],
      ['spread', 'evenly spread']]));
    fill(filters.type, all('all').concat(used(data.types, 'type')));
    fill(filters.variation, all('all').concat(used(data.variations, 'variation')));
    fill(filters.landmark, all('all').concat(data.landmarks.map((name, i) => [i, name])));
    fill(filters.route, all('all').concat([['easy', 'easy'], ['hard', 'hard']]));
    fill(filters.sides, all('all').concat([['kept', 'as the truth'],
      ['exchanged', 'exchanged']]));
    hide('run', data.runs.length < 2);
    hide('type', filters.type.length < 2);
    hide('variation', filters.variation.length < 2);
    hide('route', !data.images.some((image) => image.runs.some((r) => r && r.route)));
    fillStages();
  };

  const passes = (image) => {
    const result = image.runs[run()];
    const value = ne(image);
    const [low, high] = [filters.low.value, filters.high.value];
    return result && value !== null
      && (!filters.why.value || result.why === filters.why.value)
      && (!filters.type.value || String(image.type) === filters.type.value)
      && (!filters.variation.value || String(image.variation) === filters.variation.value)
      && (!filters.route.value || result.route === filters.route.value)
      && (!filters.sides.value
        || result.exchanged[stage()] === (filters.sides.value === 'exchanged'))
      && (low === '' || value >= Number(low))
      && (high === '' || value <= Number(high));
  };
  const change = (image) => {
    const first = ne(image, 0, data.runs[0].stages.length - 1);
    return first === null ? -Infinity : ne(image) - first;
  };
  const keys = {
    worst: (image) => -ne(image),
    best: (image) => ne(image),
    worse: (image) => -change(image),
    better: (image) => { const by = change(image); return by === -Infinity ? Infinity : by; },
  };

  // --- drawing ------------------------------------------------------------
  const element = (name, attributes, parent) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  const draw = (image, radius, numbered) => {
    const { width, height } = image;
    const svg = element('svg', { viewBox: `0 0 ${width} ${height}`, width, height,
      'aria-hidden': 'true' });
    element('image', { href: image.src, width, height }, svg);
    const [left, top, right, bottom] = image.box;
    const box = { x: left, y: top, width: right - left, height: bottom - top };
    element('rect', { ...box, class: 'box under' }, svg);
    element('rect', { ...box, class: 'box' }, svg);
    const points = image.runs[run()].points[stage()];
    const unsure = image.runs[run()].unsure[stage()];
    for (const pair of data.skeleton) {
      if (!pair.every((slot) => image.truth[slot])) continue;
      const [[x1, y1], [x2, y2]] = pair.map((slot) => points[slot]);
      const [one, other] = pair.map((slot) => data.sides[slot]);
      const of = one === other ? one : 'across';
      const dim = pair.some((slot) => unsure[slot]) ? ' unsure' : '';
      element('line', { x1, y1, x2, y2, class: `bone under ${of}${dim}` }, svg);
      element('line', { x1, y1, x2, y2, class: `bone ${of}${dim}` }, svg);
    }
    const chosen = filters.landmark.value;
    data.landmarks.forEach((name, slot) => {
      const truth = image.truth[slot];
      if (!truth) return;
      const [x, y] = points[slot];
      const side = data.sides[slot];
      const hidden = image.visibility[slot] === 1 ? ' occluded' : '';
      const dim = chosen !== '' && Number(chosen) !== slot ? ' dim' : '';
      const faint = unsure[slot] ? ' unsure' : '';
      const group = element('g', { class: 'landmark' + dim, 'data-slot': slot }, svg);
      const of = element('g', { class: 'of-truth' }, group);
      const ends = { x1: truth[0], y1: truth[1], x2: x, y2: y };
      element('line', { ...ends, class: 'line under' + faint }, of);
      element('line', { ...ends, class: `line ${side}${faint}` }, of);
      const ring = { cx: truth[0], cy: truth[1] };
      element('circle', { ...ring, r: radius + 2.6, class: 'halo' + hidden }, of);
      element('circle', { ...ring, r: radius + 2, class: `truth ${side}` }, of);
      const mark = element('circle', { cx: x, cy: y, r: radius,
        class: `mark ${side}${hidden}${faint}` }, group);
      element('title', {}, mark).textContent =
        `${name}: ${percent(image.runs[run()].errors[stage()][slot])}`;
      if (!numbered) return;
      // Beside the disc, on the side that looks away from the box's middle.
      const way = x < (left + right) / 2 ? -1 : 1;
      element('text', { x: x + way * (radius + 3), y: y + 3, class: `number ${side}`,
        'text-anchor': way < 0 ? 'end' : 'start' }, group).textContent = slot + 1;
    });
    return svg;
  };
  const span = (name, text, parent) => {
    const made = document.createElement('span');
    made.className = name;
    made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };
  const about = (image) => [data.plain_types[image.type],
    data.plain_variations[image.variation],
    image.runs[run()].exchanged[stage()] && 'left and right exchanged',
  ].filter(Boolean).join(', ');
  const branch = (image) => image.runs[run()].route && image.runs[run()].route + ' branch';

  const card = (image, place) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'card';
    if (image.runs[run()].why === 'worst') button.classList.add('open');
    button.dataset.place = place;
    button.tabIndex = place ? -1 : 0;
    const frame = span('frame', '', button);
    const picture = span('picture', '', frame);
    picture.style.width = image.width + 'px';
    picture.append(draw(image, 3.2, false));
    const text = span('words', '', button);
    const value = document.createElement('strong');
    value.textContent = 'NE ' + percent(ne(image));
    text.append(value, about(image));
    span('name', '\u200e' + image.id, text);
    button.title = image.id;
    item.append(button);
    return item;
  };

  const update = () => {
    shown = data.images.filter(passes);
    const order = filters.order.value;
    if (order === 'name') shown.sort((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
    else shown.sort((a, b) => keys[order](a) - keys[order](b));
    show();
  };
  const show = () => {
    const visible = shown.slice(0, limit);
    list.replaceChildren(...visible.map(card));
    const mean = shown.reduce((sum, image) => sum + ne(image), 0) / shown.length;
    get('gallery-count').textContent = shown.length
      ? `${shown.length} of ${data.images.length} images match, their mean NE is `
        + `${mean.toFixed(2)} %; ${visible.length} are shown.`
      : `0 of ${data.images.length} images match.`;
    get('more').hidden = visible.length === shown.length;
  };

  // --- keyboard -------------------------------------------------------------
  const focus = (place) => {
    const cards = list.querySelectorAll('.card');
    if (!cards[place]) return;
    list.querySelector('.card[tabindex="0"]').tabIndex = -1;
    cards[place].tabIndex = 0;
    cards[place].focus();
  };
  list.addEventListener('keydown', (event) => {
    const place = Number(event.target.dataset.place);
    const tops = [...list.children].map((item) => item.offsetTop);
    const columns = tops.filter((top) => top === tops[0]).length;
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    let next = null;
    if (event.key in moves) next = place + moves[event.key];
    if (event.key === 'Home') next = 0;
    if (event.key === 'End') next = list.children.length - 1;
    if (next === null) return;
    event.preventDefault();
    focus(next);
  });
  list.addEventListener('click', (event) => {
    const button = event.target.closest('.card');
    if (button) view(Number(button.dataset.place));
  });

  // --- the viewer -------------------------------------------------------------
  const viewer = get('viewer');
  const cell = (tag, text, parent) => {
    const made = document.createElement(tag);
    made.textContent = text;
    parent.append(made);
    return made;
  };
  const view = (place) => {
    if (!shown[place]) return;
    open = place;
    const image = shown[place];
    const result = image.runs[run()];
    get('viewer-title').textContent = image.id;
    get('viewer-place').textContent = `${place + 1} of ${shown.length}`;
    get('viewer-before').disabled = place === 0;
    get('viewer-after').disabled = place === shown.length - 1;
    const svg = draw(image, 2.4, true);
    get('viewer-picture').replaceChildren(svg);
    const table = document.createElement('table');
    const head = table.createTHead().insertRow();
    for (const text of ['landmark', 'truth', ...data.runs[run()].stages]) {
      cell('th', text, head).scope = 'col';
    }
    const body = table.createTBody();
    const light = (slot) => {
      for (const group of svg.querySelectorAll('.landmark')) {
        group.classList.toggle('dim', slot !== null && image.truth[slot] !== null
          && group.dataset.slot !== String(slot));
      }
    };
    data.landmarks.forEach((name, slot) => {
      const code = image.visibility[slot];
      if (code < 0) return;
      const row = body.insertRow();
      row.tabIndex = 0;
      const head = cell('th', '', row);
      head.scope = 'row';
      span('dot ' + data.sides[slot], '', head);
      head.append(`${slot + 1} ${name}`);
      cell('td', data.visibility[code], row);
      for (const errors of result.errors) cell('td', percent(errors[slot]), row);
      for (const kind of ['mouseenter', 'focus']) row.addEventListener(kind, () => light(slot));
      for (const kind of ['mouseleave', 'blur']) row.addEventListener(kind, () => light(null));
    });
    const foot = body.insertRow();
    foot.className = 'final';
    cell('th', 'NE of the image', foot).scope = 'row';
    cell('td', '', foot);
    for (const value of result.ne) cell('td', percent(value), foot);
    const facts = get('viewer-facts');
    facts.replaceChildren();
    cell('p', [data.runs.length > 1 && data.runs[run()].label, about(image), branch(image)]
      .filter(Boolean).join(' · '), facts);
    const box = cell('div', '', facts);
    box.className = 'scroll';
    box.append(table);
    if (!viewer.open) viewer.showModal();
  };
  viewer.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowLeft') view(open - 1);
    if (event.key === 'ArrowRight') view(open + 1);
  });
  viewer.addEventListener('close', () => focus(Math.min(open, list.children.length - 1)));
  viewer.addEventListener('click', (event) => {
    if (event.target === viewer) viewer.close();
  });
  get('viewer-close').addEventListener('click', () => viewer.close());
  get('viewer-before').addEventListener('click', () => view(open - 1));
  get('viewer-after').addEventListener('click', () => view(open + 1));

  // --- start ------------------------------------------------------------------
  start();
  const changed = () => { limit = PAGE; update(); };
  // Before the form hears of it: the stages are the new run's.
  filters.run.addEventListener('input', fillStages);
  get('filters').addEventListener('input', changed);
  get('filters').addEventListener('change', changed);
  get('filters').addEventListener('submit', (event) => event.preventDefault());
  get('filters').addEventListener('reset', () => setTimeout(() => { start(); changed(); }));
  get('more').addEventListener('click', () => {
    const before = limit;
    limit += PAGE;
    show();
    focus(before);
  });
  update();
})();
