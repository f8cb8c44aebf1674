// Keeps the page's own files, so that it opens without a network, and says that the page stands alone,
// which browsers ask for before they let it use several threads.

const STAMP = "pdn_jax-page-__STAMP__";
const FILES = __FILES__;

self.addEventListener("install", (event) => {
  const install = async () => {
    const cache = await caches.open(STAMP);
    await cache.addAll(["./", ...FILES].map((file) => new Request(file, { cache: "no-cache" })));
    await self.skipWaiting();
  };
  event.waitUntil(install());
});

self.addEventListener("activate", (event) => {
  const activate = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith("pdn_jax-page-") && name !== STAMP);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(activate());
});

function alone(answer) {
  const headers = new Headers(answer.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(answer.body, { status: answer.status, headers });
}

async function kept(request) {
  return alone((await caches.match(request, { ignoreSearch: true })) ?? (await fetch(request)));
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(kept(request));
});
