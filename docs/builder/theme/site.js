// What scrolls sideways can be scrolled with the keys, too: then the keyboard must be able to reach it.
const mark = () => {
  for (const box of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};

addEventListener("load", () => new ResizeObserver(mark).observe(document.querySelector("article")));
