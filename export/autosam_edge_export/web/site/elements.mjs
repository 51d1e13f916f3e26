// The few things that every part of the page does with elements.

export const byId = (id) => document.getElementById(id);

/** A new element: properties, then children; strings become text, never markup. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Radio buttons of one fieldset, drawn as segments. `choices`: [value, text, disabled]. */
export function segments(fieldset, name, choices, chosen, onChoice) {
  for (const old of fieldset.querySelectorAll('label')) old.remove();
  for (const [value, text] of choices) {
    const input = element('input', { type: 'radio', name, value, checked: value === chosen });
    input.addEventListener('change', () => onChoice(value));
    fieldset.append(element('label', {}, input, text));
  }
}
