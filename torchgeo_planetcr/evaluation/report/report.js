'use strict';

// Without this script, the page has no control that does nothing: it makes them.

function sort(table, column) {
  const headers = [...table.tHead.rows[0].cells];
  const header = headers[column];
  const isNumber = header.classList.contains('number');
  const direction = header.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
  for (const other of headers) other.removeAttribute('aria-sort');
  header.setAttribute('aria-sort', direction > 0 ? 'ascending' : 'descending');
  const key = (row) => row.cells[column].dataset.value;
  const compare = (a, b) =>
    isNumber ? a - b : a.localeCompare(b, 'en', { numeric: true });
  const body = table.tBodies[0];
  const rows = [...body.rows].sort(
    (a, b) =>
      (key(a) === '') - (key(b) === '') || direction * compare(key(a), key(b)),
  );
  body.append(...rows);
}

for (const table of document.querySelectorAll('table.sortable')) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...header.childNodes);
    button.addEventListener('click', () => sort(table, column));
    header.append(button);
  });
}

for (const viewer of document.querySelectorAll('.viewer')) {
  const stage = viewer.querySelector('.stage');
  const range = viewer.querySelector('input');
  const selects = ['left', 'right'].map((side) => viewer.querySelector(`select.${side}`));
  const chosen = (select) => select.selectedOptions[0].text;

  const update = () => {
    stage.style.setProperty('--split', `${range.value}%`);
    const [left, right] = selects.map(chosen);
    range.setAttribute(
      'aria-valuetext',
      `${range.value} % ${left}, ${100 - range.value} % ${right}`,
    );
  };
  for (const select of selects) {
    const show = () => {
      const source = document.getElementById(select.value);
      const image = stage.querySelector(`img.${select.className}`);
      image.src = source.src;
      image.alt = source.alt;
      update();
    };
    select.addEventListener('change', show);
    show();
  }
  range.addEventListener('input', update);

  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    range.value = (100 * (event.clientX - box.left)) / box.width;
    update();
  };
  stage.addEventListener('pointerdown', (event) => {
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener('pointermove', (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });

  viewer.hidden = false;
}
