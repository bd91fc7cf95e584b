// An inbox without mail: where to send it

import { el } from "./dom.js";
import { copyButton } from "./copy.js";
import { choice } from "./settings.js";

const quoted = (text) => JSON.stringify(text);
const python = (value) => (value ? "True" : "False");

/** How a program reaches *server*: host, port, kind of TLS, and whether it has to log in. */
function reached(server) {
  const match = /^(.*):(\d+)$/.exec(server.address);
  if (!match) return null;
  const [, host, port] = match;
  // A server that listens on all addresses is reached by the host name in this page's address.
  const everywhere = ["0.0.0.0", "[::]", ""].includes(host);
  const login = server.auth === "required";
  // Without a login STARTTLS is optional, and the program may not trust the server's certificate.
  const tls = server.tls === "starttls" && !login ? null : server.tls;
  return { host: (everywhere ? location.hostname : host).replace(/[[\]]/g, ""), port, login, tls, offered: server.tls };
}

const SETTINGS = {
  "Flask-Mail": ({ host, port, tls, login }) => `MAIL_SERVER = ${quoted(host)}
MAIL_PORT = ${port}
MAIL_USE_TLS = ${python(tls === "starttls")}
MAIL_USE_SSL = ${python(tls === "implicit")}
MAIL_USERNAME = ${login ? '"user"' : "None"}
MAIL_PASSWORD = ${login ? '"password"' : "None"}`,
  Django: ({ host, port, tls, login }) => `EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = ${quoted(host)}
EMAIL_PORT = ${port}
EMAIL_USE_TLS = ${python(tls === "starttls")}
EMAIL_USE_SSL = ${python(tls === "implicit")}
EMAIL_HOST_USER = ${login ? '"user"' : '""'}
EMAIL_HOST_PASSWORD = ${login ? '"password"' : '""'}`,
  nodemailer: ({ host, port, tls, login }) => `const transport = nodemailer.createTransport({
  host: ${quoted(host)},
  port: ${port},
  secure: ${tls === "implicit"},${login ? `
  auth: { user: "user", pass: "password" },` : ""}
});`,
  Laravel: ({ host, port, tls, login }) => `MAIL_MAILER=smtp
MAIL_SCHEME=${tls === "implicit" ? "smtps" : "smtp"}
MAIL_HOST=${host}
MAIL_PORT=${port}
MAIL_USERNAME=${login ? "user" : "null"}
MAIL_PASSWORD=${login ? "password" : "null"}`,
  Shell: ({ host, port, tls, login }) => `python3 - <<'END'
import smtplib

client = smtplib.SMTP${tls === "implicit" ? "_SSL" : ""}("${host}", ${port})
${tls === "starttls" ? "client.starttls()\n" : ""}${login ? 'client.login("user", "password")\n' : ""}client.sendmail("you@example.com", ["me@example.com"], "Subject: It works\\n\\nHello")
client.quit()
END`,
};

const TLS = { implicit: "implicit TLS", starttls: "none, or STARTTLS" };

/** Show the settings that a program needs to send its mail here. */
export function showWelcome(box, servers) {
  const places = servers.filter((server) => !server.lmtp).map(reached).filter(Boolean);
  const place = places.find(({ tls }) => tls !== "implicit") ?? places[0];
  box.replaceChildren(el("strong", {}, "No mail yet"), el("span", {}, "New messages appear here when they arrive."));
  if (place) showPlace(box, place);
  box.append(el("a", { class: "button", href: "#/refused" }, "What was refused, and why"));
}

function showPlace(box, place) {
  const fact = (name, value, copied) => el("div", {}, el("dt", {}, name), el("dd", {}, value, copied ? copyButton(value, copied) : null));
  const code = el("pre", { tabindex: "0" });
  const buttons = Object.keys(SETTINGS).map((name) => el("button", { type: "button", onclick: () => show(name) }, name));
  let text = "";
  function show(name) {
    text = SETTINGS[name](place);
    code.textContent = text;
    code.setAttribute("aria-label", `Settings for ${name}`);
    for (const button of buttons) button.setAttribute("aria-pressed", button.textContent === name);
    choice.set("settings", name);
  }
  const kept = choice.get("settings");
  show(Object.hasOwn(SETTINGS, kept) ? kept : "Flask-Mail");
  box.append(
    el("dl", { class: "place" },
      fact("Host", place.host, "the host"), fact("Port", place.port, "the port"),
      fact("Encryption", place.tls === "starttls" ? "STARTTLS" : TLS[place.offered] ?? "none"), fact("Login", place.login ? "required" : "not needed")),
    el("div", { class: "recipe" },
      el("div", { class: "strip" }, el("div", { class: "switch", role: "group", "aria-label": "Settings for" }, ...buttons),
        el("span", { class: "spacer" }), copyButton(() => text, "the settings", "Copy")), code));
}
