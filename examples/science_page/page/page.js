// The page: a form, a live list of jobs, a file browser, and a picture of the chosen job's result.
"use strict";

const byId = (id) => document.getElementById(id);
let jobs = [];
let chosen = null; // the run whose output and result are shown
let following = null; // the stream of its output
let opened = null; // the folder that the file browser was last asked for

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

function attempt(action) {
  return async (event) => {
    event?.preventDefault();
    byId("message").textContent = "";
    try {
      await action(event);
    } catch (error) {
      byId("message").textContent = error.message;
    }
  };
}

function element(name, text, action) {
  const made = document.createElement(name);
  made.textContent = text;
  if (action) made.addEventListener("click", attempt(action));
  return made;
}

// jobs

byId("form").addEventListener("submit", attempt(async (event) => {
  const fields = [...new FormData(event.target)].map(([name, value]) => [name, Number(value)]);
  const answer = await ask("/simulations", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(Object.fromEntries(fields)),
  });
  await choose((await answer.json()).run);
}));

new EventSource("/simulations").onmessage = (event) => {
  const before = jobs.find((job) => job.run === chosen);
  jobs = JSON.parse(event.data);
  byId("list").replaceChildren(...jobs.map(row));
  const after = jobs.find((job) => job.run === chosen);
  if (after?.state === "completed" && before?.state !== "completed") attempt(() => show(after))();
};

function row(job) {
  const line = document.createElement("tr");
  line.dataset.run = job.run;
  const started = job.started ? new Date(1000 * job.started).toLocaleString("en-GB") : job.reason;
  const time = job.elapsed === null ? "" : `${job.elapsed} s`;
  line.append(element("td", job.job_id), element("td", job.nodes), element("td", started));
  line.append(element("td", job.state), element("td", time));
  const actions = element("td", "");
  actions.append(element("button", "Show", () => choose(job.run)));
  if (["submitted", "pending", "running"].includes(job.state)) {
    actions.append(" ", element("button", "Cancel", () => ask(`/simulations/${job.run}`, { method: "DELETE" })));
  }
  line.append(actions);
  return line;
}

async function choose(run) {
  chosen = run;
  const job = jobs.find((each) => each.run === run);
  byId("chosen").hidden = false;
  byId("title").textContent = `Simulation ${run}`;
  byId("output").textContent = "";
  clear();
  following?.close();
  following = new EventSource(`/simulations/${run}/output`);
  following.onmessage = (event) => {
    byId("output").textContent += JSON.parse(event.data);
    byId("output").scrollTop = byId("output").scrollHeight;
  };
  following.addEventListener("end", () => following.close());
  if (job?.state === "completed") await show(job);
}

// the result

async function show(job) {
  await open(job.folder);
  const result = await (await ask(`/content?path=${encodeURIComponent(`${job.folder}/result.json`)}`)).json();
  if (job.run !== chosen) return;
  draw(byId("wave"), result.wave);
  const brightest = Math.max(...result.screen, 1e-12);
  const points = result.screen.map((value, at) => [(75 * value) / brightest + 2, (288 * at) / result.cells]);
  byId("screen").firstElementChild.setAttribute("points", points.map((point) => point.join(",")).join(" "));
  byId("chosen").dataset.drawn = job.run;
}

function draw(canvas, rows) {
  canvas.width = canvas.height = rows.length;
  canvas.style.width = canvas.style.height = "288px";
  const context = canvas.getContext("2d");
  const image = context.createImageData(rows.length, rows.length);
  rows.flat().forEach((value, at) => {
    const strength = Math.min(Math.abs(value) * 1.5, 1);
    const faded = 255 * (1 - strength);
    image.data.set(value > 0 ? [255, faded, faded, 255] : [faded, faded, 255, 255], 4 * at);
  });
  context.putImageData(image, 0, 0);
}

function clear() {
  byId("wave").width = byId("wave").width;
  byId("screen").firstElementChild.removeAttribute("points");
  delete byId("chosen").dataset.drawn;
}

// files

async function open(path) {
  opened = path;
  const found = await (await ask(`/files?path=${encodeURIComponent(path)}`)).json();
  if (path !== opened) return; // an earlier folder's late answer
  byId("path").textContent = path;
  const above = path.replace(/\/[^/]*$/, "") || "/";
  byId("files").replaceChildren(entry("..", () => open(above)), ...found.map((file) => {
    const below = `${path.replace(/\/$/, "")}/${file.name}`;
    if (file.type === "d") return entry(`${file.name}/`, () => open(below));
    return entry(file.name, () => save(below, file.name), ` ${file.size} B`);
  }));
}

function entry(name, action, about = "") {
  const item = element("li", "");
  item.append(element("button", name, action), about);
  return item;
}

async function save(path, name) {
  const link = document.createElement("a");
  link.href = `/content?path=${encodeURIComponent(path)}`;
  link.download = name;
  link.click();
}

attempt(async () => {
  const about = await (await ask("/about")).json();
  byId("about").textContent = `on ${about.system}, through ${about.gateway}`;
  if (opened === null) await open(about.folder);
})();
