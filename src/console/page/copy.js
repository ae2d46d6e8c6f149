// Copies texts to the clipboard.

const SAID_MS = 1_500;

/** The button shows the outcome. */
export async function copy(button, text) {
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = (await written(text, button)) ? "Copied" : "Copying is not allowed";
  setTimeout(() => (button.textContent = label), SAID_MS);
}

async function written(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return select(text, button);
  }
}

/** Over plain HTTP a page has no clipboard, but a selected text can be copied. */
function select(text, button) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "aside";
  field.setAttribute("aria-hidden", "true");
  button.after(field);
  field.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    button.focus({ preventScroll: true });
  }
}
