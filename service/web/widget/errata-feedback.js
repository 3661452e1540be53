/*
 * <errata-feedback token="…" key="…"></errata-feedback>: the end user rates one answer, and may say more.
 *
 * token    the feedback token that came with the answer; another one makes it a widget for another answer
 * key      the project's public key
 * api      where the service is; by default the origin that this script was loaded from
 * reasons  codes, "wrong,late" or ["wrong", "late"], or codes with labels, {"late": "Out of date"}
 *
 * Events, none with personal data in `detail` {event_id, state}: errata:recorded, errata:updated, errata:undone,
 * and errata:error, whose state is the problem's code. Themes: --errata-accent, --errata-text, --errata-surface,
 * --errata-line and ::part(); light or dark follows the page's `color-scheme`.
 * For frameworks: customElements.get("errata-feedback").attach(element, {token, key}).
 */
(() => {
  "use strict";

  const TEXT = {
    lang: "en",
    dir: "ltr",
    group: "Rate this answer",
    up: "Good answer",
    down: "Bad answer",
    undo: "Undo",
    more: "Say more",
    link: "Your feedback's status",
    title: "Tell us more",
    reasons: { up: "What could be better?", down: "What is wrong with it?" },
    comment: "Comment",
    correction: "What should it have said?",
    note: "Nothing here is required. What you send goes to the team behind this assistant, together with the "
      + "conversation it is about; experts read it to improve the answers.",
    send: "Send",
    close: "Close",
    recorded: "Recorded.",
    updated: "Changed.",
    sent: "Sent. Thank you.",
    undone: "Taken back.",
    failed: "Not sent: try again.",
    refused: "Not sent: the service did not accept it.",
    expired: "This answer is too old to rate.",
    codes: {
      wrong: "Factually wrong",
      unsafe: "Unsafe or biased",
      incomplete: "Incomplete",
      off_topic: "Did not answer the question",
      style: "Tone or style",
      other: "Something else",
    },
  };

  const CSS = `
:host { display: block; }
.widget {
  --a: var(--errata-accent, light-dark(#1f5fc4, #93baff));
  --t: var(--errata-text, light-dark(#1b1f26, #e8ebf0));
  --s: var(--errata-surface, light-dark(#fff, #1a1e25));
  --l: var(--errata-line, light-dark(#858d9a, #747d8c));
  text-align: start; text-indent: 0; text-transform: none; letter-spacing: normal; white-space: normal;
  line-height: 1.45;
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
button, textarea { font: inherit; color: inherit; }
button { cursor: pointer; background: none; border: 1px solid transparent; border-radius: 8px; }
:focus-visible { outline: 2px solid var(--a); outline-offset: 2px; }
.bar, .thumbs, .chips, .actions { display: flex; flex-wrap: wrap; align-items: center; gap: 4px; }
.bar { font-size: .9em; column-gap: 10px; min-height: 36px; }
.thumb { width: 36px; height: 36px; padding: 7px; }
.thumb, .quiet { transition: background-color .15s; }
.thumb:hover, .quiet:hover { background: color-mix(in srgb, currentColor 10%, transparent); }
.thumb[aria-pressed=true] {
  color: var(--a); border-color: currentColor; background: color-mix(in srgb, currentColor 14%, transparent);
}
svg {
  display: block; width: 100%; height: 100%; fill: none; stroke: currentColor; stroke-width: 1.7;
  stroke-linejoin: round;
}
[aria-pressed=true] path { fill: color-mix(in srgb, currentColor 30%, transparent); }
.quiet { min-height: 32px; padding: 2px 8px; }
.bar .quiet, a { padding-inline: 2px; color: inherit; text-decoration: underline; text-underline-offset: 3px; }
a { padding-block: 4px; border-radius: 4px; }
.alert { margin: 0; font-weight: 600; }
.panel .alert:not(:empty) { margin-bottom: 12px; }
.bar > :empty { margin-inline-start: -10px; }
.panel {
  margin-top: 8px; padding: 16px; max-width: 36em; color: var(--t); background: var(--s);
  border: 1px solid color-mix(in srgb, var(--l) 45%, transparent); border-radius: 12px; font-size: .95em;
}
h3 { width: fit-content; margin: 0 0 12px; font-size: 1.05em; line-height: 1.3; }
h3:focus-visible { outline-offset: 4px; border-radius: 2px; }
fieldset { margin: 0 0 14px; padding: 0; border: 0; min-width: 0; }
legend, .label { display: block; padding: 0; margin-bottom: 6px; font-weight: 500; }
.chips { gap: 8px; }
.chip {
  display: flex; align-items: center; gap: 7px; min-height: 34px; padding: 4px 13px 4px 10px;
  border: 1px solid var(--l); border-radius: 17px; cursor: pointer; overflow-wrap: anywhere;
}
.chip:has(:checked) { border-color: var(--a); background: color-mix(in srgb, var(--a) 12%, transparent); }
input { flex: none; width: 16px; height: 16px; margin: 0; accent-color: var(--a); }
textarea {
  display: block; width: 100%; min-height: 3.9em; margin-bottom: 14px; padding: 8px 10px; resize: vertical;
  background: transparent; border: 1px solid var(--l); border-radius: 8px;
}
.note { margin: 0 0 14px; font-size: .9em; color: color-mix(in srgb, var(--t) 80%, var(--s)); }
.actions { gap: 8px; }
.send { min-height: 36px; padding: 4px 18px; font-weight: 600; color: var(--s); background: var(--a); }
.send:hover { background: color-mix(in srgb, var(--a) 88%, var(--t)); }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media (forced-colors: active) {
  .thumb, .quiet, .send { border-color: ButtonBorder; }
  .thumb[aria-pressed=true] { forced-color-adjust: none; color: HighlightText; background: Highlight; }
}
`;

  const NAME = "errata-feedback";
  const HOME = new URL((document.currentScript && document.currentScript.src) || location.href).origin;
  const THUMB = "M7 10.5 11 3c1.7 0 3 1.2 3 2.9V9.5h5.1a2 2 0 0 1 2 2.3l-1.1 7a2 2 0 0 1-2 1.7H7zm-4 0h4v10H3z";
  const KEEPALIVE = 16384; // browsers let a page keep 64 KiB of requests alive, shared by all its widgets
  const PATIENCE = 20000;

  let sheet = null;

  const styles = () => {
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(CSS);
    }
    return sheet;
  };

  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  const button = (part, look, label = "") => make("button", { type: "button", part, class: look }, label);

  const thumb = (rating) => {
    const made = button(`thumb ${rating}`, "thumb");
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", THUMB);
    if (rating === "down") path.setAttribute("transform", "matrix(1 0 0 -1 0 24)");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    svg.append(path);
    made.append(svg);
    made.setAttribute("aria-label", TEXT[rating]);
    made.title = TEXT[rating];
    return made;
  };

  const area = (name, maxlength) => make("textarea", { id: name, part: "text", rows: 2, maxlength, dir: "auto" });

  // Half a surrogate pair or a NUL, which no database holds, would have the whole text refused.
  const clean = (text) => {
    const whole = text.toWellFormed ? text.toWellFormed() : text;
    return whole.replaceAll("\0", "").trim() || null;
  };

  // Pages that came without TLS have no randomUUID.
  const newId = () => {
    if (crypto.randomUUID) return crypto.randomUUID();
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  };

  const webAddress = (text) => {
    try {
      return /^https?:$/.test(new URL(text).protocol) ? text : null;
    } catch {
      return null;
    }
  };

  /* Return pairs of code and label. */
  const readReasons = (text) => {
    let codes = Object.keys(TEXT.codes);
    try {
      const given = /^\s*[[{]/.test(text) ? JSON.parse(text) : text?.split(",");
      if (Array.isArray(given)) codes = given.map((code) => String(code).trim());
      else if (given) return Object.entries(given);
    } catch {
      console.warn(`${NAME}: reasons is no JSON`);
    }
    return codes.filter(Boolean).map((code) => [code, TEXT.codes[code] || code.replaceAll("_", " ")]);
  };

  /*
   * What the user says about the answer of one token.
   * want: the rating that is shown; words: what Send has yet to deliver; truth: what the service has confirmed;
   * unsure: an event that the service may have recorded without our hearing of it, to be sent again as it was;
   * last: the rating that the panel is about.
   */
  const nothingSaid = (token) => ({
    token, want: null, words: null, truth: null, unsure: null, last: "down", busy: false,
  });

  class ErrataFeedback extends HTMLElement {
    static observedAttributes = ["token", "reasons"];

    /* Put a widget into the element, or give the one that is there these attributes; return it. */
    static attach(element, attributes) {
      if (!(element instanceof Element)) return null;
      const widget = element.querySelector(`:scope > ${NAME}`) || document.createElement(NAME);
      for (const name of ["token", "key", "api", "reasons"]) {
        const value = attributes?.[name];
        if (value != null && value !== "") {
          widget.setAttribute(name, typeof value === "string" ? value : JSON.stringify(value));
        }
      }
      if (!widget.isConnected) element.append(widget);
      return widget;
    }

    #said = nothingSaid(null);
    #root = this.attachShadow({ mode: "open" });
    #thumbs = { up: thumb("up"), down: thumb("down") };
    #status = make("span", { role: "status", part: "status" });
    #undo = button("undo", "quiet", TEXT.undo);
    #more = button("more", "quiet", TEXT.more);
    #link = make("a", { part: "link", target: "_blank", rel: "noopener" }, TEXT.link);
    #alert = make("p", { role: "alert", part: "alert", class: "alert" });
    #title = make("h3", { id: "title", part: "title", tabindex: -1 }, TEXT.title);
    #legend = make("legend");
    #chips = make("div", { class: "chips" });
    #reasons = make("fieldset", { part: "reasons" }, this.#legend, this.#chips);
    #comment = area("comment", 4000);
    #correction = area("correction", 8000);
    #panelAlert = this.#alert.cloneNode();
    #panel = make("div", { id: "panel", role: "group", "aria-labelledby": "title", part: "panel", class: "panel" });
    #opener = this.#thumbs.down;

    constructor() {
      super();
      this.#root.adoptedStyleSheets = [styles()];
      this.#build();
      this.#listen();
      this.#offer(null);
      this.#render();
    }

    attributeChangedCallback(name, before, now) {
      if (before === now) return;
      if (name === "reasons") this.#offer(now);
      else this.#startAgain(now);
    }

    #build() {
      const send = button("send", "send", TEXT.send);
      const close = button("close", "quiet", TEXT.close);
      send.addEventListener("click", () => this.#send());
      close.addEventListener("click", () => this.#close());
      this.#more.setAttribute("aria-controls", "panel");
      this.#panel.hidden = true;
      this.#panel.append(
        this.#title,
        this.#reasons,
        make("label", { for: "comment", class: "label" }, TEXT.comment),
        this.#comment,
        make("label", { for: "correction", class: "label" }, TEXT.correction),
        this.#correction,
        make("p", { part: "note", class: "note" }, TEXT.note),
        this.#panelAlert,
        make("div", { class: "actions" }, send, close),
      );
      const thumbs = make("div", { role: "group", "aria-label": TEXT.group, part: "thumbs", class: "thumbs" });
      const bar = make("div", { part: "bar", class: "bar" });
      const widget = make("div", { class: "widget", lang: TEXT.lang, dir: TEXT.dir });
      thumbs.append(this.#thumbs.up, this.#thumbs.down);
      bar.append(thumbs, this.#status, this.#alert, this.#undo, this.#more, this.#link);
      widget.append(bar, this.#panel);
      this.#root.append(widget);
    }

    #listen() {
      for (const [rating, thumb] of Object.entries(this.#thumbs)) {
        // The second half of a double click, and a key held down, would take back what was just said.
        thumb.addEventListener("click", (event) => event.detail > 1 || this.#rate(rating, event.detail === 0));
        thumb.addEventListener("keydown", (event) => event.repeat && event.preventDefault());
      }
      this.#undo.addEventListener("click", () => {
        this.#thumbs[this.#said.want].focus();
        this.#rate(this.#said.want);
      });
      this.#more.addEventListener("click", (event) => {
        if (this.#panel.hidden) this.#open(this.#more, event.detail === 0);
        else this.#close();
      });
      // What is typed here is no shortcut of the page, and Esc closes the panel alone.
      for (const type of ["keydown", "keypress", "keyup"]) {
        this.#panel.addEventListener(type, (event) => {
          event.stopPropagation();
          if (type !== "keydown" || event.key !== "Escape" || event.isComposing) return;
          event.preventDefault();
          this.#close();
        });
      }
    }

    #offer(text) {
      const checked = new Set(this.#checked());
      const offered = readReasons(text).slice(0, 20);
      this.#chips.replaceChildren(...offered.map(([code, label]) => {
        const box = make("input", { type: "checkbox", value: code });
        box.checked = checked.has(code);
        return make("label", { part: "chip", class: "chip" }, box, String(label));
      }));
      this.#reasons.hidden = !offered.length;
    }

    #startAgain(token) {
      this.#said = nothingSaid(token);
      this.#comment.value = this.#correction.value = "";
      this.#check([]);
      this.#tell(this.#status, "");
      this.#close();
      this.#render();
    }

    #rate(rating, byKeyboard) {
      const said = this.#said;
      said.want = said.want === rating ? null : rating;
      said.last = rating;
      if (!said.want) said.words = null;
      if (said.want === "up") this.#check([]);
      if (said.want === "down") this.#open(this.#thumbs.down, byKeyboard);
      else this.#close();
      this.#settle(said);
    }

    #send() {
      const said = this.#said;
      said.want ??= said.last;
      said.words = {
        reasons: this.#checked(),
        comment: clean(this.#comment.value),
        correction: clean(this.#correction.value),
      };
      this.#settle(said);
    }

    #open(opener, byKeyboard) {
      this.#opener = opener;
      this.#panel.hidden = false;
      this.#render();
      if (byKeyboard) this.#title.focus();
    }

    #close() {
      const isInside = this.#panel.contains(this.#root.activeElement);
      this.#panel.hidden = true;
      this.#render();
      if (isInside) this.#opener.focus();
    }

    /* Bring the service to what the user wants, one request at a time, however fast they click. */
    async #settle(said) {
      this.#tell(this.#status, "");
      this.#render();
      if (said.busy) return;
      said.busy = true;
      let news = null;
      let problem = null;
      let place = this.#alert;
      try {
        while (said.words || said.want !== (said.truth?.rating ?? null)) news = await this.#step(said);
      } catch (error) {
        problem = error;
        if (said.words) place = this.#panelAlert;
        said.want = said.truth?.rating ?? null;
        said.words = null;
      }
      said.busy = false;
      if (said !== this.#said) return;
      if (problem?.code === "token_expired" || news === "sent") this.#close();
      if (problem) this.#tell(this.#panel.hidden ? this.#alert : place, reasonFor(problem));
      else if (news) this.#tell(this.#status, TEXT[news]);
      this.#render();
    }

    /* Make one request, and return what it did. */
    async #step(said) {
      const { truth, want, words } = said;
      const event = truth || (said.unsure ||= { event_id: newId(), rating: want });
      try {
        if (!truth) return await this.#record(said, event);
        if (!want) return await this.#withdraw(said, event);
        return await this.#change(said, event, words);
      } catch (error) {
        if (truth && [404, 409].includes(error.status)) {
          said.truth = null; // withdrawn or erased elsewhere: what is still wanted is recorded anew
          this.#emit("undone", event, "withdrawn");
          return "undone";
        }
        if (error.status < 500) said.unsure = null;
        this.#emit("error", event, error.code || "unreachable");
        throw error;
      }
    }

    async #record(said, event) {
      const told = await this.#call("POST", said.token, "", event);
      said.truth = { ...event, url: webAddress(told.status_url) };
      said.unsure = null;
      this.#emit("recorded", event, told.state);
      return "recorded";
    }

    async #change(said, event, words) {
      const want = said.want;
      const rating = want === event.rating ? {} : { rating: want };
      if (rating.rating === "up") rating.reasons = [];
      const told = await this.#call("PATCH", said.token, `/${event.event_id}`, { ...rating, ...words });
      event.rating = want;
      if (said.words === words) said.words = null;
      this.#emit("updated", event, told.state);
      return words ? "sent" : "updated";
    }

    async #withdraw(said, event) {
      const told = await this.#call("DELETE", said.token, `/${event.event_id}`, {});
      said.truth = null;
      this.#emit("undone", event, told.state);
      return "undone";
    }

    async #call(method, token, path, said) {
      const base = (this.getAttribute("api") || HOME).replace(/\/+$/, "");
      const body = JSON.stringify({ key: this.getAttribute("key"), feedback_token: token, ...said });
      const response = await fetch(`${base}/v1/feedback${path}`, {
        method,
        body,
        headers: { "Content-Type": "application/json" },
        credentials: "omit",
        referrerPolicy: "no-referrer",
        keepalive: body.length < KEEPALIVE,
        signal: AbortSignal.timeout?.(PATIENCE),
      });
      const told = await response.json().catch(() => ({}));
      if (!response.ok) throw Object.assign(new Error(TEXT.failed), { status: response.status, code: told.code });
      return told;
    }

    #emit(name, event, state) {
      const detail = { event_id: event.event_id, state };
      this.dispatchEvent(new CustomEvent(`errata:${name}`, { bubbles: true, composed: true, detail }));
    }

    #tell(place, text) {
      for (const element of [this.#status, this.#alert, this.#panelAlert]) {
        element.textContent = element === place ? text : "";
      }
    }

    #checked() {
      return Array.from(this.#chips.querySelectorAll(":checked"), (box) => box.value);
    }

    #check(codes) {
      for (const box of this.#chips.querySelectorAll("input")) box.checked = codes.includes(box.value);
    }

    #render() {
      const { want, truth, last } = this.#said;
      for (const [rating, thumb] of Object.entries(this.#thumbs)) {
        thumb.setAttribute("aria-pressed", String(want === rating));
      }
      const isKnown = Boolean(want && truth);
      this.#undo.hidden = this.#more.hidden = !isKnown;
      this.#more.setAttribute("aria-expanded", String(!this.#panel.hidden));
      this.#link.hidden = !(isKnown && truth.url);
      if (!this.#link.hidden) this.#link.href = truth.url;
      this.#legend.textContent = TEXT.reasons[last];
    }
  }

  const reasonFor = ({ code, status }) => {
    if (code === "token_expired") return TEXT.expired;
    return status < 500 && status !== 408 && status !== 429 ? TEXT.refused : TEXT.failed;
  };

  if (!customElements.get(NAME)) customElements.define(NAME, ErrataFeedback);
})();
