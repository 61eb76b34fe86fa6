// What scripts add to pages that work without them: dropping a file, a word while one waits, and
// the progress of a running campaign.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("predict");
  if (form) {
    const [drop, file, name, busy] = ["drop", "file", "structure", "busy"].map((id) => document.getElementById(id));
    for (const event of ["dragover", "dragenter"]) drop.addEventListener(event, (e) => { e.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (e) => {
      e.preventDefault();
      drop.classList.remove("over");
      if (e.dataTransfer.files.length) file.files = e.dataTransfer.files;
    });
    file.addEventListener("change", () => { if (file.files.length) name.value = ""; });
    name.addEventListener("input", () => { if (name.value) file.value = ""; });
    form.addEventListener("submit", () => { busy.textContent = "Predicting …"; });
    window.addEventListener("pageshow", () => { busy.textContent = ""; });
  }

  // Empty filters stay out of the address.
  for (const filters of document.querySelectorAll("form.filters")) {
    filters.addEventListener("submit", () => {
      // Not `filters.elements`: a filter of that name hides it.
      for (const field of filters.querySelectorAll("input, select")) if (field.name && !field.value) field.disabled = true;
    });
  }

  for (const box of document.querySelectorAll("[data-poll]")) {
    const running = () => ["new", "running"].includes(box.querySelector("#progress").dataset.state);
    const poll = async () => {
      try {
        const answer = await fetch(box.dataset.poll);
        if (answer.ok) box.innerHTML = await answer.text();
      } catch { /* The server is away for a moment. */ }
      if (running()) setTimeout(poll, 3000);
      else location.reload();
    };
    if (running()) setTimeout(poll, 3000);
  }
});
