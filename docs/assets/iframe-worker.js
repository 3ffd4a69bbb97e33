// Browsers start no workers from files. Where the site is read as files, the worker of the search is a frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html><title>search</title>";
      frame.onload = () => {
        const inside = frame.contentWindow;
        inside.postMessage = (data) => this.answer(data);
        inside.importScripts = (...urls) => Promise.all(urls.map((each) => this.load(inside, each)));
        this.load(inside, url).then(() => {
          this.frame = inside;
          this.waiting.splice(0).forEach((data) => this.postMessage(data));
        });
      };
      document.body.append(frame);
    }

    load(inside, url) {
      return new Promise((loaded) => {
        const script = inside.document.createElement("script");
        script.src = url;
        script.onload = loaded;
        inside.document.body.append(script);
      });
    }

    postMessage(data) {
      if (this.frame) this.frame.dispatchEvent(new MessageEvent("message", { data }));
      else this.waiting.push(data);
    }

    answer(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      if (this.onmessage) this.onmessage(event);
    }

    terminate() {}
  };
}
