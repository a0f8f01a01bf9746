/** Elements with attributes and children; texts are only ever text. */

/**
 * @param {string} tag
 * @param {Record<string, string|number|boolean|Function|null>} attributes   a function listens to the event of its name,
 *   `true` is an attribute without value, `null` and `false` none
 * @param {...(Node|string)} children
 */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for an SVG element. */
export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** A select with a name, which stands beside it: a label around it would take the options into the name. */
export function choice(label, options, change) {
  const select = element(
    "select",
    { change: () => change(select.value) },
    ...options.map(([value, text]) => element("option", { value }, text)),
  );
  return { select, root: labelled(label, select) };
}

/** A control with its label. */
export function labelled(label, control) {
  control.id = label.toLowerCase().replaceAll(" ", "-");
  return element("span", { class: "choice" }, element("label", { for: control.id }, label), " ", control);
}

/** Set the options of a select anew where they differ, and choose one. */
export function setOptions(select, options, value) {
  const stands = ([one, text], index) =>
    select.options[index].value === String(one) && select.options[index].text === text;
  const same = select.options.length === options.length && options.every(stands);
  if (!same) select.replaceChildren(...options.map(([one, text]) => element("option", { value: one }, text)));
  if (select.value !== String(value)) select.value = String(value);
}
