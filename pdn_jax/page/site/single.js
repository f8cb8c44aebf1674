// Starts the page where all of it is one file: what it would fetch lies in the file, as text or base64.
// A classic script, as browsers open no module from a disk; data: URLs, which a worker may open as well.

(() => {
  const { config, files } = JSON.parse(document.getElementById("embedded").textContent);
  const urls = {};

  /** A module whose imports are data: URLs themselves. */
  function module(name) {
    if (!(name in urls)) {
      const inside = (_, other) => `from "${module(other)}"`;
      const source = files[name].replace(/from "\.\/([\w-]+\.js)"/g, inside);
      urls[name] = `data:text/javascript,${encodeURIComponent(source)}`;
    }
    return urls[name];
  }

  for (const [name, content] of Object.entries(files)) {
    const kinds = { mjs: "text/javascript", wasm: "application/wasm", onnx: "application/octet-stream" };
    if (name.endsWith(".js")) module(name);
    else urls[name] = `data:${kinds[name.split(".").pop()]};base64,${content}`;
  }
  globalThis.pdn_jax = { ...config, urls };
  document.getElementById("embedded").remove();
  import(urls["main.js"]);
})();
