"use strict";

// Shows /openapi.json. Everything goes into the page as text, never as markup.

let openapi;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Text with `code` in backticks. */
function prose(text) {
  const made = element("span");
  text.split("`").forEach((part, index) => made.append(index % 2 ? element("code", {}, part) : part));
  return made;
}

function resolve(node) {
  let found = node;
  while (found && found.$ref) {
    found = found.$ref.slice(2).split("/").reduce((at, key) => at[key], openapi);
  }
  return found;
}

/** What a schema asks of a value, in a line; names of other schemas are links. */
function typeOf(schema) {
  const made = element("span");
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    made.append(element("a", { href: "#schema-" + name }, name));
    return made;
  }
  if (schema.anyOf) {
    schema.anyOf.forEach((one, index) => made.append(index ? " or " : "", typeOf(one)));
    return made;
  }
  if (schema.enum) {
    made.append(schema.enum.map((one) => JSON.stringify(one)).join(", "));
    return made;
  }
  if (schema.const !== undefined) {
    made.append(JSON.stringify(schema.const));
    return made;
  }
  const limits = [];
  const range = (low, high, unit) => {
    if (low === undefined && high === undefined) return;
    const [least, most] = [low, high].map((bound) => bound?.toLocaleString("en"));
    if (low === undefined) limits.push("up to " + most + unit);
    else limits.push(least + (high === undefined ? " or more" : low === high ? "" : "–" + most) + unit);
  };
  range(schema.minimum, schema.maximum, "");
  range(schema.minLength, schema.maxLength, " characters");
  range(schema.minItems, schema.maxItems, " items");
  const soft = limits.length ? element("span", { class: "soft" }, " " + limits.join(", ")) : "";
  if (schema.type === "array") {
    made.append("list", soft, " of ", typeOf(schema.items || {}));
    return made;
  }
  made.append(schema.format || schema.type || "anything", soft);
  if (schema.pattern) made.append(" ", element("code", { class: "soft" }, schema.pattern));
  return made;
}

function table(heads, rows) {
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll" }, made);
}

function nameCell(name, required) {
  const made = element("span", {}, element("code", {}, name));
  if (required) made.append(" ", element("span", { class: "required" }, "required"));
  return made;
}

function fields(schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, property]) => [
    nameCell(name, required.has(name)),
    typeOf(property),
    property.default === undefined || property.default === null ? "" : JSON.stringify(property.default),
  ]);
  return rows.length ? table(["Field", "Value", "Default"], rows) : typeOf(schema);
}

function json(value) {
  return element("pre", { tabindex: "0" }, element("code", {}, JSON.stringify(value, null, 2)));
}

function quoted(text) {
  return "'" + text.replaceAll("'", "'\\''") + "'";
}

/** A command line that does what the operation does, with its examples. */
function curl(method, path, operation) {
  const filled = (operation.parameters || [])
    .filter((one) => one.in === "path")
    .reduce((at, one) => at.replace(`{${one.name}}`, encodeURIComponent(one.example ?? "…")), path);
  const verb = method === "get" ? "" : `-X ${method.toUpperCase()} `;
  const parts = [`curl ${verb}${quoted(location.origin + filled)}`];
  const key = (operation.parameters || []).find((one) => one.name === "Idempotency-Key" && one.required);
  if (key) parts.push("-H " + quoted(`Idempotency-Key: ${key.example}`));
  const body = operation.requestBody && operation.requestBody.content["application/json"].example;
  if (body) parts.push("-H 'Content-Type: application/json'", "-d " + quoted(JSON.stringify(body)));
  return element("pre", { tabindex: "0" }, element("code", {}, parts.join(" \\\n  ")));
}

function response(status, answer) {
  const found = resolve(answer);
  const line = [element("strong", {}, status), " ", prose(found.description)];
  if (!found.content) return element("div", { class: "bare" }, ...line);
  const summary = element("summary", {}, ...line);
  const made = element("details", {}, summary);
  for (const [media, content] of Object.entries(found.content || {})) {
    made.append(element("p", { class: "soft" }, media));
    if (content.schema) made.append(element("p", {}, typeOf(content.schema)));
    if (content.example) made.append(json(content.example));
    for (const [code, example] of Object.entries(content.examples || {})) {
      const link = element("a", { href: "/problems/" + code }, code);
      made.append(element("p", {}, link, ": " + resolve(example).value.title));
    }
  }
  return made;
}

function article(method, path, operation) {
  const address = element("p", { class: "address" }, element("span", { class: "method " + method }, method.toUpperCase()), path);
  const made = element("article", { id: operation.operationId }, element("h3", {}, operation.summary), address);
  if (operation.description) made.append(element("p", {}, prose(operation.description)));
  if ((operation.parameters || []).length) {
    made.append(element("h4", {}, "Parameters"));
    const rows = operation.parameters.map((one) => [
      nameCell(one.name, one.required), one.in, typeOf(one.schema), prose(one.description || ""),
    ]);
    made.append(table(["Name", "In", "Value", "Meaning"], rows));
  }
  if (operation.requestBody) {
    const content = operation.requestBody.content["application/json"];
    made.append(element("h4", {}, operation.requestBody.required ? "Body" : "Body (optional)"));
    made.append(fields(resolve(content.schema)));
  }
  made.append(element("h4", {}, "Example"), curl(method, path, operation));
  made.append(element("h4", {}, "Answers"));
  for (const [status, answer] of Object.entries(operation.responses)) made.append(response(status, answer));
  return made;
}

function show() {
  document.getElementById("title").textContent = openapi.info.title + " API";
  document.getElementById("version").textContent = openapi.info.version;
  const description = document.getElementById("description");
  openapi.info.description.split("\n\n").forEach((text) => description.append(element("p", {}, prose(text))));

  const index = document.getElementById("index");
  const operations = document.getElementById("operations");
  operations.replaceChildren();
  for (const tag of openapi.tags.map((one) => one.name)) {
    const list = element("ul");
    index.append(element("section", {}, element("h2", {}, tag), list));
    operations.append(element("h2", {}, tag));
    for (const [path, methods] of Object.entries(openapi.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags[0] !== tag) continue;
        operations.append(article(method, path, operation));
        const link = element("a", { href: "#" + operation.operationId }, operation.summary);
        const item = element("li", {}, link);
        item.dataset.text = `${method} ${path} ${operation.summary}`.toLowerCase();
        list.append(item);
      }
    }
  }

  const schemas = document.getElementById("schemas");
  schemas.append(element("h2", {}, "Schemas"));
  for (const [name, schema] of Object.entries(openapi.components.schemas)) {
    const made = element("article", { id: "schema-" + name }, element("h3", {}, name));
    if (schema.description) made.append(element("p", {}, prose(schema.description)));
    made.append(fields(schema));
    schemas.append(made);
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const section of document.querySelectorAll("#index section")) {
    let shown = 0;
    for (const item of section.querySelectorAll("li")) {
      item.hidden = !item.dataset.text.includes(wanted);
      shown += item.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
  }
});

fetch("/openapi.json")
  .then((answer) => {
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
  })
  .then((found) => {
    openapi = found;
    show();
  })
  .catch((error) => {
    document.getElementById("operations").textContent = `The document could not be read: ${error.message}`;
  });
