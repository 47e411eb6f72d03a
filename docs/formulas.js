for (const formula of document.querySelectorAll(".arithmatex")) {
  katex.render(formula.textContent, formula, { displayMode: formula.tagName === "DIV" });
}
