/*
 * <errata-feedback token="…" key="…"></errata-feedback>: the end user rates one answer, and may say more.
 *
 * token    the feedback token that came with the answer; one of another answer makes it a widget for that
 * key      the project's public key
 * api      where the service is; by default the origin that this script was loaded from
 * for      id of the element that shows the answer: its parts can be marked, and a correction can start from it
 * reasons  codes, "wrong,late" or ["wrong", "late"], or codes with labels, {"late": "Out of date"}; by default the
 *          project's own
 * lang     by default the page's language; English, German, French, Spanish and Arabic are here
 * texts    other words, or those of another language, as JSON; customElements.get("errata-feedback").texts names them
 * outbox   "off": keep nothing in the browser, and tell the user what could not be sent
 * restore  "off": do not ask, once the answer is seen, what was said about it earlier
 *
 * An element with slot="note" in it, such as a link to a privacy notice, is shown with what is said of where words go.
 * Events, none with personal data in `detail` {event_id, state}: errata:recorded, errata:updated, errata:undone, and
 * errata:error, whose state is the problem's code; of what an earlier page left unsent the document hears. Themes:
 * --errata-accent, --errata-text, --errata-surface, --errata-line and ::part(); light or dark follows the page's
 * `color-scheme`. For frameworks: customElements.get("errata-feedback").attach(element, {token, key}).
 */
(() => {
  "use strict";

  // The texts of each language, in the order of the keys.
  const KEYS = (
    "group up down undo more link better mark select comment correction start consent note "
    + "send close recorded sent undone waiting failed refused expired"
  ).split(" ");

  const LANGUAGES = {
    en: [
      "Rate this answer",
      "Good answer",
      "Bad answer",
      "Undo",
      "Say more",
      "Your feedback's status",
      "What could be better?",
      "Mark the wrong part",
      "First select it in the answer.",
      "Comment",
      "What should it have said?",
      "Start from the answer",
      "My words may improve the assistant.",
      "All of this is optional. It goes, with the conversation, to the team behind this assistant.",
      "Send",
      "Close",
      "Recorded.",
      "Sent. Thank you.",
      "Taken back.",
      "Will be sent when you are online.",
      "Not sent: try again.",
      "The service did not accept it.",
      "This answer is too old to rate.",
    ],
    de: [
      "Diese Antwort bewerten",
      "Gute Antwort",
      "Schlechte Antwort",
      "Zurücknehmen",
      "Mehr sagen",
      "Stand Ihrer Rückmeldung",
      "Was könnte besser sein?",
      "Falsche Stelle markieren",
      "Wählen Sie sie erst in der Antwort aus.",
      "Kommentar",
      "Was wäre richtig gewesen?",
      "Von der Antwort ausgehen",
      "Meine Worte dürfen den Assistenten verbessern.",
      "Alles hier ist freiwillig. Es geht mit dem Gespräch an das Team hinter diesem Assistenten.",
      "Senden",
      "Schließen",
      "Vermerkt.",
      "Gesendet. Danke.",
      "Zurückgenommen.",
      "Wird gesendet, sobald Sie online sind.",
      "Nicht gesendet: bitte noch einmal.",
      "Vom Dienst abgelehnt.",
      "Diese Antwort ist zu alt dafür.",
    ],
    fr: [
      "Évaluer cette réponse",
      "Bonne réponse",
      "Mauvaise réponse",
      "Annuler",
      "En dire plus",
      "Suivi de votre avis",
      "Que faudrait-il améliorer ?",
      "Marquer le passage faux",
      "Sélectionnez-le d’abord dans la réponse.",
      "Commentaire",
      "Qu’aurait-il fallu répondre ?",
      "Partir de la réponse",
      "Mes mots peuvent améliorer l’assistant.",
      "Tout est facultatif, et va, avec la conversation, à l’équipe de cet assistant.",
      "Envoyer",
      "Fermer",
      "Enregistré.",
      "Envoyé. Merci.",
      "Annulé.",
      "Sera envoyé quand vous serez en ligne.",
      "Non envoyé : réessayez.",
      "Refusé par le service.",
      "Cette réponse est trop ancienne.",
    ],
    es: [
      "Valorar esta respuesta",
      "Buena respuesta",
      "Mala respuesta",
      "Deshacer",
      "Decir más",
      "Estado de su opinión",
      "¿Qué podría ser mejor?",
      "Marcar la parte errónea",
      "Selecciónela primero en la respuesta.",
      "Comentario",
      "¿Qué debería haber dicho?",
      "Partir de la respuesta",
      "Mis palabras pueden mejorar el asistente.",
      "Todo es opcional, y llega, con la conversación, al equipo de este asistente.",
      "Enviar",
      "Cerrar",
      "Registrado.",
      "Enviado. Gracias.",
      "Retirado.",
      "Se enviará cuando tenga conexión.",
      "No enviado: inténtelo de nuevo.",
      "El servicio no lo aceptó.",
      "Esta respuesta es demasiado antigua.",
    ],
    ar: [
      "قيّم هذه الإجابة",
      "إجابة جيدة",
      "إجابة سيئة",
      "تراجع",
      "أضف المزيد",
      "حالة ملاحظتك",
      "ما الذي يمكن تحسينه؟",
      "حدّد الجزء الخاطئ",
      "ظلّله أولاً في الإجابة.",
      "تعليق",
      "ماذا كان ينبغي أن تقول؟",
      "ابدأ من الإجابة",
      "يمكن لكلماتي أن تحسّن المساعد.",
      "كل هذا اختياري، ويصل مع المحادثة إلى فريق هذا المساعد.",
      "إرسال",
      "إغلاق",
      "سُجّل.",
      "أُرسل. شكرًا.",
      "سُحب.",
      "سيُرسل عند اتصالك بالإنترنت.",
      "لم يُرسل: حاول مجددًا.",
      "لم تقبله الخدمة.",
      "هذه الإجابة أقدم من أن تُقيَّم.",
    ],
  };

  const TEXTS = Object.fromEntries(Object.entries(LANGUAGES).map(([lang, texts]) => (
    [lang, Object.fromEntries(KEYS.map((key, place) => [key, texts[place]]))]
  )));

  const REASONS = "wrong unsafe incomplete off_topic style other".split(" ");

  const CSS = `
:host { display: block; }
.widget {
  --a: var(--errata-accent, light-dark(#1f5fc4, #93baff));
  --t: var(--errata-text, light-dark(#1b1f26, #e8ebf0));
  --s: var(--errata-surface, light-dark(#fff, #1a1e25));
  --l: var(--errata-line, light-dark(#858d9a, #747d8c));
  --h: color-mix(in srgb, currentColor 12%, transparent);
  text-align: start; text-indent: 0; text-transform: none; letter-spacing: normal; white-space: normal;
  line-height: 1.45;
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; }
button, textarea { font: inherit; color: inherit; background: none; border: 1px solid transparent; border-radius: 8px; }
button { min-height: 32px; padding: 2px 8px; cursor: pointer; }
button:hover { box-shadow: inset 0 0 0 9em var(--h); }
:focus-visible { outline: 2px solid var(--a); outline-offset: 2px; }
.bar, .thumbs, .chips, .row { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; }
.widget { font-size: .95em; }
.bar { min-height: 36px; }
.thumb { width: 36px; height: 36px; padding: 7px; }
[aria-pressed=true] { color: var(--a); border-color: currentColor; background: var(--h); }
[aria-pressed=true] path { fill: var(--h); }
svg { display: block; fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linejoin: round; }
.down svg { transform: scaleY(-1); }
.undo, .more, .start, .link {
  padding: 4px 2px; border-radius: 4px; color: inherit; text-decoration: underline; text-underline-offset: 3px;
}
.alert { font-weight: 600; }
.panel {
  display: grid; gap: 14px; max-width: 36em; margin-top: 8px; padding: 16px 18px; color: var(--t);
  background: var(--s); border: 1px solid var(--l); border-radius: 12px;
}
.title { font-size: 1.05em; }
fieldset { padding: 0; border: 0; min-width: 0; }
legend { padding: 0 0 6px; }
.label { flex: 1 0 auto; }
.chip, .consent { display: flex; align-items: center; gap: 8px; cursor: pointer; }
.chip {
  min-height: 34px; padding: 4px 13px 4px 10px; border: 1px solid var(--l); border-radius: 17px;
  overflow-wrap: anywhere;
}
.chip:has(:checked) { border-color: var(--a); background: var(--h); }
input { flex: none; width: 16px; height: 16px; accent-color: var(--a); }
.field { display: grid; gap: 6px; }
.text { width: 100%; min-height: 4em; padding: 8px 10px; resize: vertical; field-sizing: content; border-color: var(--l); }
.mark, .close { border-color: var(--l); }
.quote:not(:empty) { padding-inline-start: 9px; border-inline-start: 3px solid var(--a); overflow-wrap: anywhere; }
.diff { background: var(--h); padding: 8px 10px; border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
del { color: light-dark(#a3242f, #ffa8a8); }
ins { color: light-dark(#0d6832, #86dfa8); }
.heard { position: absolute; clip-path: inset(50%); }
.note { font-size: .9em; color: color-mix(in srgb, var(--t) 80%, var(--s)); }
.send, .close { min-height: 36px; padding: 4px 18px; }
.send { font-weight: 600; color: var(--s); background: var(--a); }
@media (forced-colors: active) {
  button { border-color: ButtonBorder; }
  [aria-pressed=true] { forced-color-adjust: none; color: HighlightText; background: Highlight; }
}
`;

  const NAME = "errata-feedback";
  const LOADED = document.currentScript;
  const HOME = new URL(LOADED?.src || location.href).origin;
  const THUMB = "M7 10.5 11 3c1.7 0 3 1.2 3 2.9V9.5h5.1a2 2 0 0 1 2 2.3l-1.1 7a2 2 0 0 1-2 1.7H7zm-4 0h4v10H3z";
  const KEEPALIVE = 16384; // browsers let a page keep 64 KiB of requests alive, shared by all its widgets
  const SECOND = 1000;
  const PATIENCE = 20 * SECOND;
  const HOUR = 3600 * SECOND;
  const WEEK = 168 * HOUR;
  const MOST_KEPT = 50;
  const MOST_PAIRS = 4e6; // of words to compare, so that typing stays fluent

  let sheet = null;

  const dress = (root) => {
    try {
      if (!sheet) {
        sheet = new CSSStyleSheet();
        sheet.replaceSync(CSS);
      }
      root.adoptedStyleSheets = [sheet];
    } catch {
      root.append(Object.assign(document.createElement("style"), { nonce: LOADED?.nonce || "", textContent: CSS }));
    }
  };

  /* Make an element that is named for our style sheet, by its class, and for the host's, by its part. */
  const make = (tag, name, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const each of Object.entries({ class: name, part: name, ...attributes })) made.setAttribute(...each);
    made.append(...children);
    return made;
  };

  /* Make an element whose text `#speak` writes in the user's language. */
  const say = (tag, name, attributes) => make(tag, name, { "data-text": name, ...attributes });

  const button = (name) => say("button", name, { type: "button" });

  const away = (name) => say("a", name, { target: "_blank", rel: "noopener" });

  const thumb = (rating) => {
    const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
    path.setAttribute("d", THUMB);
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.append(path);
    return make("button", `thumb ${rating}`, { type: "button", "data-label": rating }, svg);
  };

  const area = (name, maxlength) => make("textarea", "text", { id: name, maxlength, dir: "auto" });

  const label = (name) => say("label", "label", { for: name, "data-text": name });

  const field = (name, box, ...more) => [make("div", "row", {}, label(name), ...more, make("span", "note")), box];

  const check = (value) => make("input", "box", { type: "checkbox", value });

  // Half a surrogate pair or a NUL, which no database holds, would have the whole text refused.
  const clean = (text) => {
    const whole = text.toWellFormed ? text.toWellFormed() : text;
    return whole.replaceAll("\0", "").trim() || null;
  };

  // Not crypto.randomUUID, which pages that came without TLS lack.
  const newId = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/(.{8})(.{4}).(.{3}).(.{3})/, "$1-$2-4$3-8$4-");
  };

  const webAddress = (text) => (/^https?:/.test(text) ? text : null);

  const parse = (name, text) => {
    try {
      return JSON.parse(text);
    } catch {
      console.warn(`${NAME}: ${name} is no JSON`);
      return null;
    }
  };

  /* Return pairs of code and label, or null for those of the project. */
  const readReasons = (text) => {
    const given = /^\s*[[{]/.test(text) ? parse("reasons", text) : text?.split(",");
    return Array.isArray(given) ? given.map(pair).filter(([code]) => code) : given && Object.entries(given);
  };

  const pair = (given) => {
    const code = String(given).trim();
    return [code, code.slice(0, 1).toUpperCase() + code.slice(1).replaceAll("_", " ")];
  };

  /* Return what a token is about, which stays the same when a page is given a fresh one for the same answer. */
  const answerOf = (token) => {
    try {
      const { project, response, subject } = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
      return String([project, response, subject]);
    } catch {
      return token;
    }
  };

  /* Return what was kept, taken away and put in, word by word, as pairs of a tag ("" for kept) and a text. */
  const compare = (before, after) => {
    const [a, b] = [before, after].map((text) => text.match(/[\p{L}\p{M}\p{N}]+|\s+|[^]/gu));
    if (a.length * b.length > MOST_PAIRS) return [["del", before], ["ins", after]];
    // common[i][j]: how many words a from i on and b from j on share
    const common = [...a, 0].map(() => new Uint16Array(b.length + 1));
    for (let i = a.length; i--; ) {
      for (let j = b.length; j--; ) {
        common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
      }
    }
    const found = [["", ""]];
    for (let i = 0, j = 0; i < a.length || j < b.length; ) {
      const isLess = j === b.length || common[i + 1]?.[j] >= common[i][j + 1];
      const tag = a[i] === b[j] ? "" : isLess ? "del" : "ins";
      if (found.at(-1)[0] !== tag) found.push([tag, ""]);
      found.at(-1)[1] += tag === "ins" ? b[j] : a[i];
      if (tag !== "del") j++;
      if (tag !== "ins") i++;
    }
    return found;
  };

  const call = async (api, path, options) => {
    const response = await fetch(`${api}/v1/${path}`, {
      credentials: "omit",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout?.(PATIENCE),
      ...options,
    });
    const told = await response.json().catch(() => ({}));
    if (response.ok) return told;
    const { status, headers } = response;
    throw Object.assign(new Error(told.code), { status, code: told.code, wait: headers.get("Retry-After") * SECOND });
  };

  const projects = new Map();

  /* Return pairs of code and label as the project has them, or null where it cannot be heard; asked once a page. */
  const reasonsOf = (api, key, lang) => {
    const id = `${api} ${key} ${lang}`;
    if (!projects.has(id)) {
      const asking = call(api, `reasons?language=${lang}`, { headers: { Authorization: `Bearer ${key}` } })
        .then(({ reasons }) => reasons.map(({ code, label }) => label ? [code, label] : pair(code)))
        .catch(() => projects.delete(id) && null);
      projects.set(id, asking);
    }
    return projects.get(id);
  };

  /*
   * What the user says about one answer. want: the rating that is shown; words: what Send has yet to deliver; truth:
   * what the service has confirmed; unsure: an event that the service may have recorded without our hearing of it, to
   * be sent again as it was; last: the rating that the panel is about; tries and due: how often sending has failed, and
   * when it is time again. The rest, `ui` and `busy`, is this page's, and never stored. An id begins with its time.
   */
  const nothingSaid = (token) => ({
    token, id: `${Date.now()}-${newId()}`, want: null, words: null, truth: null, unsure: null, last: "down", tries: 0,
  });

  const isOpen = ({ words, want, truth, unsure }) => words || want !== (truth?.rating ?? null) || (unsure && !truth);

  const isPassing = ({ status }) => !(status < 500) || status === 408 || status === 429;

  const emit = (said, name, event, state) => {
    const target = said.ui?.target.isConnected ? said.ui.target : document;
    const detail = { event_id: event?.event_id, state };
    target.dispatchEvent(new CustomEvent(`errata:${name}`, { bubbles: true, composed: true, detail }));
  };

  /* Do something as the only tab that does it, where browsers tell tabs apart. */
  const alone = async (what, act) => {
    try {
      return await navigator.locks.request(`${NAME} ${what}`, act);
    } catch {
      return act();
    }
  };

  const told = (request) =>
    new Promise((done, fail) => {
      request.onsuccess = () => done(request.result);
      request.onerror = () => fail(request.error);
    });

  /* Do something with the stored records and return all of them, or null where nothing can be stored. */
  const box = (act) =>
    alone("box", async () => {
      const stored = await indexedDB.databases?.();
      if (!act && stored?.every(({ name }) => name !== NAME)) return [];
      const opening = indexedDB.open(NAME);
      opening.onupgradeneeded = () => opening.result.createObjectStore("unsent", { keyPath: "id" });
      const database = await told(opening);
      const store = database.transaction("unsent", "readwrite").objectStore("unsent");
      act?.(store);
      const rows = await told(store.getAll());
      database.close();
      // Without locks another tab may be about to put something in.
      if (!rows.length && navigator.locks) await told(indexedDB.deleteDatabase(NAME));
      return rows;
    }).catch(() => null);

  const unsent = new Map(); // by id: all that this page knows of, stored or not
  let timer = null;

  const keep = async (said) => {
    unsent.set(said.id, said);
    const { ui, busy, ...record } = said;
    const rows = await box((store) => store.put({ ...record, isStored: true }));
    said.isStored = Boolean(rows);
    for (const { id } of rows?.slice(0, -MOST_KEPT) ?? []) giveUp(unsent.get(id) || { id }, "unsent");
  };

  /* Return what is stored, as this page now knows it, too. */
  const load = async () => {
    const rows = await box();
    for (const row of rows ?? []) {
      const said = unsent.get(row.id) || {};
      if (!said.busy) unsent.set(row.id, Object.assign(said, row));
    }
    return rows;
  };

  const drop = (said) => {
    unsent.delete(said.id);
    return box((store) => store.delete(said.id));
  };

  const giveUp = (said, state) => {
    emit(said, "error", said.truth || said.unsure, state);
    said.want = said.truth?.rating ?? null;
    said.words = null;
    return drop(said);
  };

  /* Bring the service to what the user wants, one request at a time, however fast they click. */
  const deliver = async (said) => {
    const prepare = () => said.truth || (said.unsure ||= { event_id: newId(), rating: said.want });
    if (isOpen(said)) prepare();
    said.due = Date.now() + 1.5 * PATIENCE; // for other tabs, which are not to meddle
    if (said.isKept) keep(said);
    if (said.busy) return;
    said.busy = true;
    let news = said.want ? null : "undone";
    let problem = null;
    try {
      for (; isOpen(said); news = await step(said)) prepare();
      said.tries = 0;
      if (said.isKept) drop(said);
    } catch (error) {
      problem = error;
      if (!isPassing(problem)) said.unsure = null;
      if (said.isKept && isPassing(problem)) await postpone(said, problem);
      else await giveUp(said, problem.code || "unreachable");
    }
    said.busy = false;
    said.ui?.hear(said, news, problem);
  };

  const postpone = async (said, problem) => {
    const pause = Math.min(HOUR, 5 * SECOND * 2 ** said.tries++ * (1 + Math.random()));
    said.due = Date.now() + Math.max(pause, problem.wait || 0);
    await keep(said);
    wait();
  };

  const wait = () => {
    clearTimeout(timer);
    const due = Math.min(...Array.from(unsent.values(), (said) => said.due));
    if (unsent.size) timer = setTimeout(sweep, Math.max(SECOND, due - Date.now()));
  };

  /* Send what waits: what is due, or all that has failed, as when the network is back; one tab at a time. */
  const sweep = (isBack) =>
    alone("sending", async () => {
      const rows = await load();
      for (const said of [...unsent.values()]) {
        if (said.busy) continue;
        if (said.isStored && rows?.every(({ id }) => id !== said.id)) {
          unsent.delete(said.id); // another tab has sent it
          const truth = said.want && { ...(said.truth || said.unsure), rating: said.want };
          Object.assign(said, { truth, words: null, unsure: null, tries: 0 });
          said.ui?.hear(said, truth ? "sent" : "undone");
        } else if (parseInt(said.id) < Date.now() - WEEK) {
          giveUp(said, "unsent");
        } else if (navigator.onLine !== false && (said.due <= Date.now() || (isBack && said.tries))) {
          await deliver(said);
        }
      }
      wait();
    });

  /* Make one request, and return what it did. */
  const step = async (said) => {
    const { api, key, token: feedback_token, truth, want, words, unsure } = said;
    const event = truth || unsure;
    const isNew = want && !truth;
    const [method, name] = isNew ? ["POST", "recorded"] : want ? ["PATCH", "updated"] : ["DELETE", "undone"];
    const body = JSON.stringify({ key, feedback_token, ...(isNew ? event : want && changed(said)) });
    const headers = { "Content-Type": "application/json" };
    const options = { method, body, headers, keepalive: body.length < KEEPALIVE };
    try {
      const { status_url, state } = await call(api, isNew ? "feedback" : `feedback/${event.event_id}`, options);
      const rating = isNew ? event.rating : want;
      said.truth = want && { event_id: event.event_id, rating, url: webAddress(status_url) };
      if (!isNew && said.words === words) said.words = null;
      emit(said, name, event, state);
      said.unsure = null;
      return !isNew && words ? "sent" : want ? "recorded" : "undone";
    } catch (error) {
      if (isNew || ![404, 409].includes(error.status)) throw error;
      said.truth = said.unsure = null; // withdrawn or erased elsewhere: what is still wanted is recorded anew
      emit(said, "undone", event, "withdrawn");
      return "undone";
    }
  };

  const changed = ({ want, truth, words }) => {
    const rating = want === truth.rating ? {} : { rating: want };
    if (rating.rating === "up") rating.reasons = [];
    return { ...rating, ...words };
  };

  class ErrataFeedback extends HTMLElement {
    static observedAttributes = ["token", "reasons", "lang", "texts", "for"];
    static texts = TEXTS;

    /* Put a widget into the element, or give the one that is there these attributes; return it. */
    static attach(element, attributes) {
      if (!(element instanceof Element)) return null;
      const widget = element.querySelector(`:scope > ${NAME}`) || document.createElement(NAME);
      for (const [name, value] of Object.entries(attributes ?? {})) {
        if (value != null && value !== "") {
          widget.setAttribute(name, typeof value === "string" ? value : JSON.stringify(value));
        }
      }
      if (!widget.isConnected) element.append(widget);
      return widget;
    }

    #said = nothingSaid();
    #ui = { target: this, hear: (...news) => this.#hear(...news) };
    #text = TEXTS.en;
    #lang = "en";
    #picked = new Set();
    #consent = null;
    #part = 0;
    #selection = null;
    #origin = null;
    #watch = window.IntersectionObserver && new IntersectionObserver((seen) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      this.#watch.disconnect();
      this.#restore();
    });
    #root = this.attachShadow({ mode: "open" });
    #thumbs = { up: thumb("up"), down: thumb("down") };
    #status = make("span", "status", { role: "status" });
    #undo = button("undo");
    #more = button("more");
    #link = away("link");
    #alert = make("p", "alert", { role: "alert" });
    #title = say("h3", "title", { tabindex: -1, "data-text": "more" });
    #chips = make("div", "chips");
    #reasons = make("fieldset", "reasons", {}, say("legend", "better"), this.#chips);
    #mark = button("mark");
    #quote = make("span", "quote", { role: "status" });
    #marking = make("div", "row", {}, this.#quote, this.#mark);
    #comment = area("comment", 4000);
    #correction = area("correction", 8000);
    #start = button("start");
    #diff = make("p", "diff", { role: "group", "data-label": "correction", dir: "auto" });
    #heard = make("p", "heard", { role: "status" });
    #agree = check("on");
    #panel = make("div", "panel", { id: "panel", role: "group", "data-label": "more", hidden: "" });
    #widget = make("div", "widget");
    #opener = this.#thumbs.down;

    constructor() {
      super();
      dress(this.#root);
      this.#build();
      this.#listen();
    }

    connectedCallback() {
      this.#speak();
    }

    attributeChangedCallback(name, before, now) {
      if (name !== "token") this.isConnected && this.#speak();
      else if (answerOf(this.#said.token) === answerOf(now)) this.#said.token = now;
      else this.#startAgain(now);
    }

    get #api() {
      return (this.getAttribute("api") || HOME).replace(/\/+$/, "");
    }

    /* The element that shows the answer, if the host has told which. */
    get #answer() {
      return this.getRootNode().getElementById?.(this.getAttribute("for")) || null;
    }

    #build() {
      const { up, down } = this.#thumbs;
      const thumbs = make("div", "thumbs", { role: "group", "data-label": "group" }, up, down);
      const [send, close] = [button("send"), button("close")];
      send.onclick = () => this.#send();
      close.onclick = () => this.#close();
      this.#more.setAttribute("aria-controls", "panel");
      this.#panel.append(
        this.#title,
        this.#reasons,
        this.#marking,
        make("div", "field", {}, ...field("comment", this.#comment)),
        make("div", "field", {}, ...field("correction", this.#correction, this.#start), this.#diff),
        this.#heard,
        make("label", "consent", {}, this.#agree, say("span", "", { "data-text": "consent" })),
        make("p", "note", {}, say("span", "", { "data-text": "note" }), " ", make("slot", "", { name: "note" })),
        make("div", "row", {}, send, close),
      );
      const bar = make("div", "bar", {}, thumbs, this.#status, this.#undo, this.#more, this.#link);
      this.#widget.append(bar, this.#panel, this.#alert);
      this.#root.append(this.#widget);
    }

    #listen() {
      for (const [rating, thumb] of Object.entries(this.#thumbs)) {
        // The second half of a double click, and a key held down, would take back what was just said.
        thumb.onclick = ({ detail }) => detail > 1 || this.#rate(rating, !detail);
        thumb.onkeydown = (event) => !event.repeat;
      }
      this.#undo.onclick = () => {
        this.#thumbs[this.#said.want].focus();
        this.#rate(this.#said.want);
      };
      this.#more.onclick = ({ detail }) => (this.#panel.hidden ? this.#open(this.#more, !detail) : this.#close());
      this.#chips.onchange = ({ target }) => this.#picked[target.checked ? "add" : "delete"](target.value);
      this.#agree.onchange = () => (this.#consent = this.#agree.checked);
      this.#mark.onmousedown = () => false; // which would unselect
      this.#mark.onclick = () => this.#markPart();
      this.#start.onclick = () => this.#startFromAnswer();
      this.#comment.oninput = () => this.#showRoom(this.#comment);
      this.#correction.oninput = () => this.#showChanges();
      // What is typed here is no shortcut of the page, and Esc closes the panel alone.
      this.#panel.onkeydown = this.#panel.onkeypress = this.#panel.onkeyup = (event) => {
        event.stopPropagation();
        if (event.type !== "keydown" || event.key !== "Escape" || event.isComposing) return;
        event.preventDefault();
        this.#close();
      };
    }

    /* Write everything in the language of the element or page, and offer what the attributes allow. */
    #speak() {
      const lang = (this.closest("[lang]") || document.documentElement).lang.toLowerCase();
      const base = lang.split("-")[0];
      const given = parse("texts", this.getAttribute("texts"));
      this.#lang = TEXTS[base] || given ? lang : "en";
      this.#text = { ...TEXTS.en, ...TEXTS[base], ...given };
      this.#widget.lang = this.#lang;
      this.#widget.dir = this.#text.dir || (/^(ar|fa|he|ur)\b/.test(this.#lang) ? "rtl" : "ltr");
      for (const one of this.#root.querySelectorAll("[data-text]")) one.textContent = this.#text[one.dataset.text];
      for (const one of this.#root.querySelectorAll("[data-label]")) {
        one.ariaLabel = this.#text[one.dataset.label];
        if (one.localName === "button") one.title = one.ariaLabel;
      }
      this.#start.hidden = this.#marking.hidden = !this.getAttribute("for");
      this.#offer(readReasons(this.getAttribute("reasons")) || REASONS.map(pair));
      this.#render();
    }

    #offer(reasons) {
      this.#chips.replaceChildren(...reasons.slice(0, 20).map(([code, label]) => {
        const box = check(code);
        box.checked = this.#picked.has(code);
        return make("label", "chip", {}, box, String(label));
      }));
      this.#reasons.hidden = !reasons.length;
    }

    async #offerThoseOfProject() {
      if (readReasons(this.getAttribute("reasons"))) return;
      const reasons = await reasonsOf(this.#api, this.getAttribute("key"), this.#lang);
      if (reasons) this.#offer(reasons);
    }

    #startAgain(token) {
      this.#said = nothingSaid(token);
      this.#fill({});
      this.#tell(this.#status, "");
      this.#close();
      this.#watch?.observe(this);
    }

    /* Show what was said earlier: what waits here, or what the service knows of. */
    async #restore() {
      const said = this.#said;
      const { token } = said;
      const isUntouched = () => said === this.#said && !said.want && !said.busy;
      await load();
      const isOfThis = (one) => one.api === this.#api && answerOf(one.token) === answerOf(token);
      const waiting = [...unsent.values()].find(isOfThis);
      if (waiting) {
        if (!isUntouched()) return;
        this.#said = Object.assign(waiting, { token, ui: this.#ui });
        this.#fill(waiting.words || {});
        this.#tell(this.#status, this.#text.waiting);
      } else if (token && this.getAttribute("restore") !== "off") {
        const headers = { Authorization: `Bearer ${this.getAttribute("key")}`, "Errata-Feedback-Token": token };
        const { items } = await call(this.#api, "feedback", { headers }).catch(() => ({}));
        if (!items?.length || !isUntouched()) return;
        const [{ event_id, rating, status_url, ...words }] = items;
        said.truth = { event_id, rating, url: webAddress(status_url) };
        said.want = said.last = rating;
        this.#fill(words);
      }
      this.#render();
    }

    #fill({ reasons = [], comment, correction, consent = null, selection = null }) {
      this.#comment.value = comment || "";
      this.#correction.value = correction || "";
      this.#agree.checked = Boolean(consent);
      this.#consent = consent;
      this.#origin = null;
      this.#showSelection(selection);
      this.#showRoom(this.#comment);
      this.#showChanges();
      this.#pick(reasons);
    }

    #rate(rating, byKeyboard) {
      const said = this.#said;
      said.want = said.want === rating ? null : rating;
      said.last = rating;
      if (!said.want) said.words = null;
      if (said.want === "up") this.#pick([]);
      if (said.want === "down") this.#open(this.#thumbs.down, byKeyboard);
      else this.#close();
      this.#settle();
    }

    #send() {
      const said = this.#said;
      const correction = clean(this.#correction.value);
      said.want ??= said.last;
      said.words = {
        reasons: Array.from(this.#chips.querySelectorAll(":checked"), (box) => box.value),
        comment: clean(this.#comment.value),
        correction: correction === this.#origin ? null : correction,
        consent: this.#consent,
      };
      if (this.#selection || said.isMarked) said.words.selection = this.#selection;
      said.isMarked = Boolean(this.#selection);
      this.#settle();
    }

    #settle() {
      const said = Object.assign(this.#said, {
        api: this.#api,
        key: this.getAttribute("key"),
        isKept: this.getAttribute("outbox") !== "off",
        ui: this.#ui,
      });
      this.#tell(this.#status, "");
      this.#render();
      deliver(said);
    }

    #hear(said, news, problem) {
      if (said !== this.#said) return;
      const { waiting } = this.#text;
      const wasWaiting = this.#status.textContent === waiting; // whoever writes meanwhile is not disturbed
      const isWaiting = problem && said.tries;
      const isOver = news === "sent" || (isWaiting && said.words);
      if (problem?.code === "token_expired" || (isOver && !wasWaiting)) this.#close();
      if (!problem) this.#tell(this.#status, this.#text[news] || "");
      else if (!isWaiting) this.#tell(this.#alert, this.#text[wordFor(problem)]);
      else if (!wasWaiting) this.#tell(this.#status, said.want ? waiting : this.#text.undone);
      this.#render();
    }

    #open(opener, byKeyboard) {
      this.#opener = opener;
      this.#panel.hidden = false;
      this.#offerThoseOfProject();
      this.#render();
      if (byKeyboard) this.#title.focus();
    }

    #close() {
      const isInside = this.#panel.contains(this.#root.activeElement);
      this.#panel.hidden = true;
      this.#render();
      if (isInside) this.#opener.focus();
    }

    /* Take what is selected in the answer for what is wrong with it, or take the mark away. */
    #markPart() {
      const answer = this.#answer;
      const selected = document.getSelection();
      const range = selected?.rangeCount ? selected.getRangeAt(0) : null;
      if (this.#selection) this.#showSelection(null);
      else if (!answer || !range || range.collapsed || !answer.contains(range.commonAncestorContainer)) {
        this.#quote.textContent = this.#text.select;
      } else {
        const before = document.createRange();
        before.selectNodeContents(answer);
        before.setEnd(range.startContainer, range.startOffset);
        const start = [...String(before).trimStart()].length;
        const quote = String(range);
        this.#showSelection({ start, end: start + [...quote].length, quote: clean(quote.slice(0, 2000)) });
      }
    }

    #showSelection(selection) {
      this.#selection = selection;
      this.#quote.textContent = selection?.quote || "";
      this.#mark.dataset.text = selection ? "undo" : "mark";
      this.#mark.textContent = this.#text[this.#mark.dataset.text];
    }

    #startFromAnswer() {
      const answer = this.#answer;
      this.#origin = answer && clean(answer.innerText.slice(0, this.#correction.maxLength));
      this.#correction.value = this.#origin || "";
      this.#correction.focus();
      this.#showChanges();
    }

    /* Show how much was written of what there is room for, from three quarters on, and tell of every twentieth. */
    #showRoom({ value: { length }, maxLength, previousSibling }) {
      const part = Math.floor((length / maxLength) * 20);
      const text = part < 15 ? "" : `${length} / ${maxLength}`;
      previousSibling.lastChild.textContent = text;
      if (part !== this.#part) this.#heard.textContent = text;
      this.#part = part;
    }

    #showChanges() {
      this.#showRoom(this.#correction);
      const changed = this.#correction.value.trim();
      this.#diff.hidden = !this.#origin || !changed || changed === this.#origin;
      const shown = this.#diff.hidden ? [] : compare(this.#origin, changed);
      this.#diff.replaceChildren(...shown.map(([tag, text]) => (tag ? make(tag, tag, {}, text) : text)));
    }

    #tell(place, text) {
      this.#status.textContent = this.#alert.textContent = "";
      place.textContent = text;
    }

    #pick(codes) {
      this.#picked = new Set(codes);
      for (const box of this.#chips.querySelectorAll("input")) box.checked = this.#picked.has(box.value);
    }

    #render() {
      const { want, truth, tries } = this.#said;
      for (const [rating, thumb] of Object.entries(this.#thumbs)) {
        thumb.setAttribute("aria-pressed", String(want === rating));
      }
      this.#undo.hidden = this.#more.hidden = !(want && (truth || tries));
      this.#more.setAttribute("aria-expanded", String(!this.#panel.hidden));
      this.#link.hidden = !(want && truth?.url);
      if (!this.#link.hidden) this.#link.href = truth.url;
    }
  }

  const wordFor = (problem) => {
    if (problem.code === "token_expired") return "expired";
    return isPassing(problem) ? "failed" : "refused";
  };

  if (customElements.get(NAME)) return;
  addEventListener("online", sweep);
  sweep();
  customElements.define(NAME, ErrataFeedback);
})();
