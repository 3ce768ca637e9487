// What pages do besides htmx. Everything here is a comfort: without it each page can be read and each form sent.
"use strict";

const on = (type, selector, act) =>
  document.addEventListener(type, (event) => {
    const found = event.target.closest?.(selector);
    if (found) act(found, event);
  });

// What only works with scripts is hidden until they run; parts that come later are shown when they come.
const reveal = (root) => {
  for (const found of root.querySelectorAll("[data-copy][hidden], [data-dismiss][hidden]")) found.hidden = false;
};
reveal(document);
document.addEventListener("htmx:load", (event) => reveal(event.target.parentNode ?? document));

on("click", "[data-copy]", async (button) => {
  const { copy, copied } = button.dataset;
  await navigator.clipboard.writeText(copy);
  const text = button.textContent;
  button.textContent = copied;
  setTimeout(() => { button.textContent = text; }, 1500);
});

on("click", "[data-dismiss]", (button) => button.closest("[data-message]").remove());

on("click", "[data-opens]", (link, event) => {
  event.preventDefault();
  document.getElementById(link.dataset.opens).showModal();
});
on("click", "[data-closes]", (link, event) => {
  event.preventDefault();
  const dialog = document.getElementById(link.dataset.closes);
  if (dialog.open) dialog.close();
  else history.replaceState(null, "", location.pathname + location.search);
});
// Links in the part of a button are pressed with the space bar as well.
on("keydown", "a[role=button]", (link, event) => {
  if (event.key === " ") {
    event.preventDefault();
    link.click();
  }
});

// Menus close as people expect it of menus.
const closeMenus = (but) => {
  for (const menu of document.querySelectorAll("[data-menu][open]")) if (menu !== but) menu.open = false;
};
document.addEventListener("click", (event) => closeMenus(event.target.closest("[data-menu]")));
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest("[data-menu][open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A filter bar acts when a choice is made; what is typed waits for Enter.
on("change", "[data-filters] select, [data-filters] [type=checkbox]", (field) => field.form.requestSubmit());
on("submit", "[data-filters]", (form) => {
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
});
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("[data-filters] :disabled")) field.disabled = false;
});

// A form that changes something is sent once, however often its button is pressed. A download leaves its page as it is.
on("submit", "form[method=post]:not([data-download])", (form, event) => {
  if (form.dataset.sent) event.preventDefault();
  else if (!event.defaultPrevented) {
    form.dataset.sent = "1";
    form.setAttribute("aria-busy", "true");
  }
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.removeAttribute("aria-busy");
  }
});

// Fields that one choice needs are shown with it: data-shown-with="name=value" of the form's radio buttons.
const fit = (form) => {
  for (const part of form.querySelectorAll("[data-shown-with]")) {
    const [name, value] = part.dataset.shownWith.split("=");
    const chosen = form.elements[name]?.value;
    part.hidden = chosen !== undefined && chosen !== value;
  }
};
for (const part of document.querySelectorAll("[data-shown-with]")) fit(part.closest("form"));
on("change", "form [type=radio]", (field) => fit(field.form));

// A file can be dropped on the form that asks for one.
on("dragover", "[data-drop]", (form, event) => {
  event.preventDefault();
  form.classList.add("over");
});
on("dragleave", "[data-drop]", (form) => form.classList.remove("over"));
on("drop", "[data-drop]", (form, event) => {
  event.preventDefault();
  form.classList.remove("over");
  if (event.dataTransfer.files.length) form.querySelector("[type=file]").files = event.dataTransfer.files;
});
