"use strict";
// The report is whole without this script: it lays pictures over each other, copies texts, and opens folds for print.
(() => {
  const show = (figure, left, right, share) => {
    const pictures = figure.querySelectorAll(".layer");
    pictures.forEach((picture, number) => {
      const shown = number === left || number === right;
      picture.hidden = !shown;
      picture.style.zIndex = number === right ? "2" : "1";
      picture.style.clipPath = number === right && left !== right ? `inset(0 0 0 ${share}%)` : "none";
    });
    figure.querySelector(".edge").style.left = `${share}%`;
  };

  const compare = (figure) => {
    const slider = figure.querySelector("input[type=range]");
    const [left, right] = figure.querySelectorAll("select");
    const draw = () => {
      show(figure, Number(left.value), Number(right.value), Number(slider.value));
      const names = [left, right].map((choice) => choice.options[choice.selectedIndex].text);
      slider.setAttribute("aria-valuetext", `${slider.value} % ${names[0]}, the rest ${names[1]}`);
    };
    figure.classList.add("live");
    figure.querySelector(".controls").hidden = false;
    for (const control of [slider, left, right]) control.addEventListener("input", draw);
    figure.querySelector(".flicker").addEventListener("click", () => {
      slider.value = Number(slider.value) < 50 ? 100 : 0;
      draw();
    });
    const larger = figure.querySelector(".enlarge");
    const enlarge = (on) => {
      figure.classList.toggle("large", on);
      larger.setAttribute("aria-pressed", String(on));
      larger.textContent = on ? "Back to the page" : "Enlarge";
    };
    larger.addEventListener("click", () => enlarge(!figure.classList.contains("large")));
    figure.addEventListener("keydown", (event) => { if (event.key === "Escape") enlarge(false); });
    // The picture itself is a handle, too.
    const stack = figure.querySelector(".stack");
    const drag = (event) => {
      if (event.type === "pointermove" && !(event.buttons & 1)) return;
      const box = stack.getBoundingClientRect();
      slider.value = Math.round(((event.clientX - box.left) / box.width) * 100);
      draw();
    };
    stack.addEventListener("pointerdown", drag);
    stack.addEventListener("pointermove", drag);
    draw();
  };

  const copy = (button) => {
    const text = document.getElementById(button.dataset.of);
    button.hidden = false;
    button.addEventListener("click", async () => {
      const words = button.textContent;
      try {
        await navigator.clipboard.writeText(text.value);
      } catch {
        const fold = text.closest("details");
        if (fold) fold.open = true;
        text.select();
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = words; }, 2000);
    });
  };

  const enlarge = (picture) => {
    const figure = picture.parentElement;
    const toggle = () => figure.classList.toggle("zoomed");
    picture.tabIndex = 0;
    picture.addEventListener("click", toggle);
    picture.addEventListener("blur", () => figure.classList.remove("zoomed"));
    picture.addEventListener("keydown", (event) => {
      if (event.key === "Enter") toggle();
      if (event.key === "Escape") figure.classList.remove("zoomed");
    });
  };

  const folds = (button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      const all = document.querySelectorAll(`[id="${CSS.escape(button.dataset.folds)}-all"] > details.fold`);
      const open = [...all].some((fold) => !fold.open);
      for (const fold of all) fold.open = open;
      button.textContent = open ? "Fold all" : "Unfold all";
    });
  };

  // A link into a fold opens it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    let opened = false;
    for (let fold = target; fold; fold = fold.parentElement) {
      if (fold.tagName !== "DETAILS" || fold.open) continue;
      fold.open = opened = true;
    }
    if (opened) target.scrollIntoView();
  };

  document.querySelectorAll(".compare").forEach(compare);
  document.querySelectorAll("button[data-of]").forEach(copy);
  document.querySelectorAll("button[data-folds]").forEach(folds);
  document.querySelectorAll("figure > img").forEach(enlarge);
  addEventListener("hashchange", unfold);
  unfold();
  const contents = document.querySelector("nav details");
  if (contents && innerWidth < 900) contents.open = false;

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const fold of folded) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of folded) fold.open = false;
  });
})();
