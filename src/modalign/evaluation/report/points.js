// Draws each .points element's cloud on its canvas and turns it while it is dragged.
// data-cloud holds base64 of N x 3 little-endian int16 (-32767..32767 is the unit cube) and then N x 3 uint8 colours.
(() => {
  const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [i & 1 ? 1 : -1, i & 2 ? 1 : -1, i & 4 ? 1 : -1]);
  const edges = [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]];

  function decode(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const count = bytes.length / 9;
    const view = new DataView(bytes.buffer);
    const places = [];
    for (let i = 0; i < count; i++) {
      places.push([0, 1, 2].map((axis) => view.getInt16(6 * i + 2 * axis, true) / 32767));
    }
    return { places, colours: bytes.subarray(6 * count) };
  }

  function show(element) {
    const canvas = element.querySelector("canvas");
    const { places, colours } = decode(element.dataset.cloud);
    let yaw = parseFloat(element.dataset.yaw);
    let pitch = parseFloat(element.dataset.pitch);

    function project([x, y, z], size) {
      const across = x * Math.cos(yaw) - y * Math.sin(yaw);
      const away = x * Math.sin(yaw) + y * Math.cos(yaw);
      const up = z * Math.cos(pitch) - away * Math.sin(pitch);
      const depth = away * Math.cos(pitch) + z * Math.sin(pitch);
      const scale = (size * 0.27) / (1 + 0.18 * depth);
      return [size / 2 + across * scale, size / 2 - up * scale, depth];
    }

    function draw() {
      const size = element.clientWidth * (window.devicePixelRatio || 1);
      canvas.width = canvas.height = size;
      const pen = canvas.getContext("2d");
      pen.strokeStyle = "rgba(128,136,146,.45)";
      pen.fillStyle = "rgba(128,136,146,1)";
      pen.font = `${Math.round(size / 22)}px system-ui, sans-serif`;
      for (const [from, to] of edges) {
        pen.beginPath();
        pen.moveTo(...project(corners[from], size).slice(0, 2));
        pen.lineTo(...project(corners[to], size).slice(0, 2));
        pen.stroke();
      }
      [["x", [0, -1.12, -1.12]], ["y", [1.12, 0, -1.12]], ["z", [-1.12, -1.12, 0]]].forEach(([name, at]) => {
        pen.fillText(name, ...project(at, size).slice(0, 2));
      });
      const seen = places.map((place, i) => [...project(place, size), i]).sort((a, b) => b[2] - a[2]);
      const dot = Math.max(2, size / 110);
      for (const [x, y, , i] of seen) {
        pen.fillStyle = `rgb(${colours[3 * i]},${colours[3 * i + 1]},${colours[3 * i + 2]})`;
        pen.fillRect(x - dot / 2, y - dot / 2, dot, dot);
      }
    }

    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      yaw += event.movementX / 90;
      pitch = Math.max(-1.5, Math.min(1.5, pitch + event.movementY / 90));
      draw();
    });
    element.style.backgroundImage = "none";
    draw();
  }

  document.querySelectorAll(".points").forEach(show);
})();
