/**
 * etcd3 reads `${__dirname}/../proto/rpc.proto` when it is imported. A CommonJS module has a `__dirname` of its own, but a
 * bundle is an ES module and has none: there the global one is found, which says that the `.proto` files lie in `proto/`
 * beside the bundle. Whoever builds a bundle copies etcd3's `proto` folder there. Imported before etcd3, for this effect.
 */
const global = globalThis as { __dirname?: string };
global.__dirname ??= `${import.meta.dirname}/lib`;
