"""How several processes train one model: where Lightning learns of them, and the engines."""
